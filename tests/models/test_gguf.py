"""GGUF files against the models that they were written from."""

import copy

import gguf
import numpy as np
import pytest
import torch
import transformers
from conftest import CONFIGS, CONTEXT, make_model, make_tokenizer, randomised
from gguf_writer import add, converted, write

from circuits.errors import CircuitsError
from circuits.models import HookedModel, load_model
from circuits.models.checkpoints import load_config
from circuits.models.gguf.container import GGUF

TOKENS = torch.arange(1, 25)[None]
NAMES = [
    *("llama", "llama-mha", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "olmo2", "gpt2"),
    *("gpt-neox", "gpt-neox-sequential"),
]


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


@pytest.mark.parametrize("name", NAMES)
def test_a_model_comes_back_as_it_was_written(name, tmp_path):
    """Grouped heads, fused projections, norms behind: as llama.cpp writes them."""
    original = make_model(name)
    model, tokenizer = load_model(write(tmp_path / "m.gguf", original), device="cpu")
    expected = logits(original)
    assert expected.std() > 0.1 and tokenizer is None
    assert torch.allclose(logits(model), expected, atol=1e-5 * float(expected.abs().max()))
    if not name.startswith("gemma"):  # their norms are stored with 1 added
        for key, tensor in original.state_dict().items():
            assert torch.equal(model.state_dict()[key], tensor), key
    HookedModel.from_pretrained(tmp_path / "m.gguf", device="cpu")


@pytest.mark.parametrize("tie", [True, False])
def test_tied_embeddings_are_told_from_two(tie, tmp_path):
    config = CONFIGS["llama"]()
    config.tie_word_embeddings = tie
    original = randomised(config)
    model, _ = load_model(write(tmp_path / "m.gguf", original), device="cpu")
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tie
    assert torch.equal(logits(model), logits(original))


def test_an_embedding_stored_twice_is_tied(tmp_path):
    original = make_model("gpt2")
    twice = {"output.weight": original.transformer.wte.weight.detach().numpy()}
    model, _ = load_model(write(tmp_path / "m.gguf", original, tensors=twice), device="cpu")
    assert model.lm_head.weight is model.transformer.wte.weight


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantised_weights_are_those_of_the_package(kind, tmp_path):
    """Against the package's own reader and dequantisation, and llama.cpp's order of rows."""
    config = CONFIGS["llama"]()
    config.intermediate_size = 64
    original = randomised(config)
    path = write(tmp_path / "m.gguf", original, quantisation=kind)
    model, _ = load_model(path, device="cpu")
    written = dict(converted(model, "llama"))
    read = {
        one.name: gguf.dequantize(one.data, one.tensor_type)
        for one in gguf.GGUFReader(path).tensors
    }
    assert read.keys() == written.keys()
    for name, values in read.items():
        assert np.array_equal(values, written[name]), name
    assert not torch.equal(logits(model), logits(original))
    assert GGUF.read(path).record["quantisation"] == kind


def test_the_model_is_plain(tmp_path):
    """Cast, saved, trained, and wrapped as any other."""
    from circuits.tuning.targets import lora_config, wrap

    path = write(tmp_path / "m.gguf", make_model("llama"), quantisation="Q8_0")
    model, _ = load_model(path, device="cpu")
    assert "quantization_config" not in model.config.to_dict()
    expected = logits(model)
    copy.deepcopy(model).to(torch.bfloat16).double()
    model.save_pretrained(tmp_path / "plain")
    saved, _ = load_model(tmp_path / "plain", device="cpu")
    assert torch.equal(logits(saved), expected)
    before = {name: one.clone() for name, one in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(TOKENS, labels=TOKENS).loss.backward()
    optimizer.step()
    assert all(not torch.equal(one, before[name]) for name, one in model.named_parameters())
    again, _ = load_model(path, device="cpu")  # the file is as it was
    assert torch.equal(logits(again), expected)
    adapted = wrap(again, lora_config([0, 2], again, rank=2))
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    merged, _ = load_model(tmp_path / "adapter", device="cpu")  # onto the file that it names
    assert torch.equal(logits(merged), expected)


def test_half_precision_is_kept(tmp_path):
    path = write(tmp_path / "m.gguf", make_model("gemma3"), quantisation="Q8_0")
    model, _ = load_model(path, device="cpu", dtype="bfloat16")
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}


def rope(**settings):
    config = CONFIGS["llama"]()
    config.rope_parameters = {"rope_theta": 10000.0, **settings}
    return randomised(config)


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"rope_type": "linear", "factor": 4.0}, {"type": "linear", "factor": 4.0}),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
            {"type": "yarn", "factor": 4.0, "original_context_length": 16},
        ),
        ({"rope_type": "default"}, {"type": "none"}),
    ],
)
def test_scaled_rotary_embeddings(settings, keys, tmp_path):
    original = rope(**settings)
    keys = {f"llama.rope.scaling.{key}": value for key, value in keys.items()}
    model, _ = load_model(write(tmp_path / "m.gguf", original, keys=keys), device="cpu")
    assert torch.allclose(logits(model), logits(original), atol=1e-5)
    scaled = settings["rope_type"] != "default"
    assert torch.allclose(logits(model), logits(make_model("llama")), atol=1e-3) is not scaled


def test_llama_3s_divisors_are_its_scaling(tmp_path):
    """The file holds what the converter computed, not the constants."""
    settings = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    settings["original_max_position_embeddings"] = 8192
    original = rope(rope_type="llama3", factor=32.0, rope_theta=5e5, **settings)
    base = 1 / 5e5 ** (np.arange(0, 8, 2) / 8)
    divisors = base / original.model.rotary_emb.inv_freq.double().numpy()
    assert divisors.max() > 30 and divisors.min() < 1.01
    path = write(tmp_path / "m.gguf", original, tensors={"rope_freqs.weight": divisors})
    model, _ = load_model(path, device="cpu")
    assert model.config.rope_parameters["factor"] == 32.0
    assert torch.allclose(logits(model), logits(original), atol=1e-5)
    divisors[1] *= 1.5
    path = write(tmp_path / "n.gguf", original, tensors={"rope_freqs.weight": divisors})
    with pytest.raises(CircuitsError, match="holds other factors than Llama 3's scaling"):
        load_model(path, device="cpu")


def test_long_rope_comes_from_two_tensors(tmp_path):
    factors = {"short": [1.0, 1.0, 1.5, 2.0], "long": [2.0, 4.0, 8.0, 16.0]}
    rope = {f"{which}_factor": values for which, values in factors.items()}
    settings = {**CONFIGS["phi3"]().to_dict(), "original_max_position_embeddings": 16}
    settings["rope_parameters"] = {"rope_type": "longrope", "rope_theta": 10000.0, **rope}
    original = randomised(transformers.Phi3Config(**settings))
    scale = float(np.sqrt(1 + np.log(CONTEXT / 16) / np.log(16)))  # as the converter writes it
    model, _ = load_model(
        write(
            tmp_path / "m.gguf",
            original,
            keys={
                "phi3.rope.scaling.original_context_length": 16,
                "phi3.rope.scaling.attn_factor": scale,
            },
            tensors={
                f"rope_factors_{which}.weight": np.array(values)
                for which, values in factors.items()
            },
        ),
        device="cpu",
    )
    assert torch.allclose(logits(model), logits(original), atol=1e-5)  # a long text
    with torch.no_grad():
        short, expected = model(TOKENS[:, :9]).logits, original(TOKENS[:, :9]).logits
    assert torch.allclose(short, expected, atol=1e-5)


def test_gemma_3_has_two_bases_and_its_pattern(tmp_path):
    config = CONFIGS["gemma3"]()
    config.num_hidden_layers = 7
    config.layer_types = ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]
    config.rope_parameters["full_attention"] = {
        "rope_type": "linear",
        "factor": 8.0,
        "rope_theta": 1e6,
    }
    original = randomised(config)
    keys = {"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0}
    every = ["gemma3.attention.sliding_window_pattern"]  # the sixth, where it is not told
    path = write(tmp_path / "m.gguf", original, keys=keys, drop=every)
    model, _ = load_model(path, device="cpu")
    assert model.config.layer_types == config.layer_types
    assert torch.allclose(logits(model), logits(original), atol=1e-4)


def test_the_largest_gemmas_scale_attention_by_the_models_width(tmp_path):
    path = write(tmp_path / "m.gguf", make_model("gemma2"), keys={"gemma2.block_count": 46})
    assert load_config(path).query_pre_attn_scalar == 32 // 4
    path = write(tmp_path / "n.gguf", make_model("gemma2"))
    assert load_config(path).query_pre_attn_scalar == 12


def test_the_configuration_is_that_of_the_model(tmp_path):
    original = make_model("llama")
    keys = {f"tokenizer.ggml.{role}_token_id": 0 for role in ("bos", "eos", "padding")}
    found = load_config(write(tmp_path / "m.gguf", original, keys=keys)).to_dict()
    expected = original.config.to_dict()
    differing = {key for key in found if found[key] != expected.get(key)}
    assert differing <= {"architectures", "dtype", "_name_or_path"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": {"llama.expert_count": 8}}, "llama.expert_count = 8 is not known here, and may"),
        ({"keys": {"llama.logit_scale": 0.5}}, "llama.logit_scale = 0.5 is not known here"),
        ({"keys": {"llama.rope.scaling.type": "su"}}, "rotary embeddings scaled by 'su'"),
        ({"keys": {"llama.rope.dimension_sections": [1, 2]}}, "rope.dimension_sections = "),
        ({"keys": {"llama.attention.sliding_window": 4}}, "sliding_window = 4 is not known here"),
        ({"keys": {"llama.attn_logit_softcapping": 50.0}}, "softcapping = 50.0 is not known here"),
        ({"keys": {"llama.use_parallel_residual": True}}, "residual = True is not known here"),
        ({"drop": ["llama.attention.layer_norm_rms_epsilon"]}, "layer_norm_rms_epsilon is missing"),
        ({"keys": {"llama.rope.dimension_count": 4}}, "4 of a head's 8 dimensions are turned"),
        ({"keys": {"llama.attention.causal": False}}, "its attention is not causal"),
        ({"keys": {"llama.attention.value_length": 4}}, r"differ in width \(8 and 4\)"),
        ({"keys": {"llama.attention.head_count_kv": [2, 2, 4]}}, "differs between layers"),
        ({"keys": {"split.count": 3}}, "one of 3 parts of a model; join them with"),
        ({"drop": ["llama.block_count"]}, "llama.block_count is missing"),
        ({"drop": ["token_embd.weight"]}, "tensor token_embd.weight is missing"),
        (
            {"drop": ["blk.1.ffn_up.weight"]},
            "are missing: model.layers.1.mlp.up_proj.weight; the file",
        ),
        (
            {"tensors": {"blk.1.ffn_up.weight": np.zeros((47, 32))}},
            "are of another shape: model.layers.1.mlp.up_proj.weight",
        ),
        (
            {"tensors": {"blk.0.attn_sinks.weight": np.zeros(4)}},
            "LlamaForCausalLM has no place for: blk.0.attn_sinks.weight",
        ),
        ({"tensors": {"blk.3.ffn_norm.weight": np.zeros(32)}}, "are without a place in it: model"),
    ],
)
def test_what_cannot_be_read_is_named(change, message, tmp_path):
    path = write(tmp_path / "m.gguf", make_model("llama"), **change)
    with pytest.raises(CircuitsError, match=message) as refusal:
        load_model(path, device="cpu")
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_what_another_architecture_has_is_refused_unless_it_is_nothing(tmp_path):
    path = write(tmp_path / "m.gguf", make_model("gpt2"), keys={"gpt2.rope.freq_base": 1e4})
    with pytest.raises(CircuitsError, match=r"freq_base = 10000\.0 is not known here"):
        load_config(path)
    nothing = {"llama.attention.sliding_window": 0, "llama.use_parallel_residual": False}
    config = load_config(write(tmp_path / "n.gguf", make_model("llama"), keys=nothing))
    assert not hasattr(config, "sliding_window")


def test_a_cut_file_is_called_so(tmp_path):
    whole = write(tmp_path / "m.gguf", make_model("llama")).read_bytes()
    path = tmp_path / "cut.gguf"
    for size in (len(whole) - 1, len(whole) // 2, 3000, 30, 5):
        path.write_bytes(whole[:size])
        with pytest.raises(CircuitsError, match=r"cut.gguf: truncated: .* copy it again"):
            load_config(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04" * 20, "not a GGUF file"),
        (b"GGUF" + (1).to_bytes(4, "little") + bytes(20), "GGUF of version 1, where 2 and 3 are"),
        (b"GGUF" + (3).to_bytes(4, "big") + bytes(20), "big-endian files are not"),
        (b"GGUF" + (3).to_bytes(4, "little") + bytes(16), "does not name its architecture"),
    ],
)
def test_what_is_no_model_is_refused(content, message, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(CircuitsError, match=f"m.gguf: .*{message}"):
        load_model(path, device="cpu")


def test_an_unknown_architecture_is_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    add(writer, "mamba.block_count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(CircuitsError, match="architecture 'mamba' is not read; known: llama, qwen"):
        load_model(tmp_path / "m.gguf", device="cpu")


def test_what_makes_a_result_says_the_file(tmp_path, random_pairs):
    import circuits
    from circuits.runtime.files import fingerprint

    path = write(tmp_path / "m.gguf", make_model("llama"), quantisation="Q8_0")
    model = HookedModel.from_pretrained(path, device="cpu")
    made = circuits.attribute(model, random_pairs(2), "eap").provenance.model
    assert made.gguf == {
        "file": "m.gguf",
        "quantisation": "Q8_0",
        "sha256": fingerprint(path),
    }
    plain = HookedModel(make_model("llama"), make_tokenizer(), "plain")
    assert circuits.attribute(plain, random_pairs(2), "eap").provenance.model.gguf is None
    assert model.n_ctx == CONTEXT
