"""Checkpoints that are not whole, not plain, or not what they say."""

import json
import warnings

import pytest
import torch
import transformers
from conftest import CONFIGS, make_model, make_tokenizer, randomised
from safetensors.torch import load_file, save_file

from circuits.errors import CircuitsError
from circuits.models import HookedModel, load_model
from circuits.models.adapters import recorded_base
from circuits.models.checkpoints import bases, load_config, tokenizer_of


def rewritten(path, change):
    """Change the tensors of a safetensors file."""
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda held: {k: v for k, v in held.items() if ".layers.1." not in k},
            "weights of LlamaForCausalLM are missing: model.layers.1.* and 6 more; the",
        ),
        (
            lambda held: {k: v for k, v in held.items() if k != "lm_head.weight"},
            "are missing: lm_head.weight; the checkpoint is inc",
        ),
        (
            lambda held: {f"other.{k}": v for k, v in held.items()},
            "are missing: lm_head.weight, .* and 27 more",
        ),
        (
            lambda held: {**held, "lm_head.weight": held["lm_head.weight"][:9].clone()},
            "are of another shape: lm_head.weight; the checkpoint is inc",
        ),
    ],
)
def test_a_checkpoint_without_all_weights_is_refused(change, message, tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    rewritten(tmp_path / "model.safetensors", change)
    with pytest.raises(CircuitsError, match=message):
        load_model(tmp_path, device="cpu")


def test_truncated_weights_are_refused(tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for size in (3, len(whole) // 2):
        weights.write_bytes(whole[:size])
        with pytest.raises(CircuitsError, match="the model folder cannot be loaded"):
            load_model(tmp_path, device="cpu")


def test_a_quantised_checkpoint_needs_its_package(tmp_path):
    make_model("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "quanto", "weights": "int8"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CircuitsError, match=r"cannot be loaded .*quanto"):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "t5", "bart"])
def test_a_body_alone_is_whole_where_its_head_is_tied(name, tmp_path):
    whole = make_model(name)
    whole.base_model.save_pretrained(tmp_path)
    found, _ = load_model(tmp_path, device="cpu")
    assert torch.equal(found.get_output_embeddings().weight, whole.get_input_embeddings().weight)


def test_a_body_alone_with_a_head_of_its_own_is_refused(tmp_path):
    """As a reward model's checkpoint."""
    transformers.LlamaForSequenceClassification(CONFIGS["llama"]()).save_pretrained(tmp_path)
    with pytest.raises(CircuitsError, match=r"are missing: lm_head.weight;"):
        load_model(tmp_path, device="cpu")


@pytest.fixture
def adapter(tmp_path):
    """(base, config) -> folder of an adapter with random weights, and its logits unmerged."""
    import peft

    def make(base, config):
        model, _ = load_model(base, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = peft.get_peft_model(model, config).eval()
            torch.manual_seed(0)
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    torch.nn.init.normal_(parameter, std=0.2)
            adapted.save_pretrained(tmp_path / "adapter")
        with torch.no_grad():
            return tmp_path / "adapter", adapted(TOKENS).logits

    return make


TOKENS = torch.arange(1, 9)[None]


def lora(**settings):
    import peft

    return peft.LoraConfig(task_type="CAUSAL_LM", r=2, **settings)


def test_an_adapter_of_other_names_is_refused(adapter, model_folder):
    base = model_folder("llama")
    folder, _ = adapter(base, lora(target_modules=["q_proj"]))
    rewritten(
        folder / "adapter_model.safetensors",
        lambda held: {k.replace("model.model", "model.transformer"): v for k, v in held.items()},
    )
    with pytest.raises(CircuitsError, match=r"of the adapter are missing: base_m.*more; it is"):
        HookedModel.from_pretrained(folder, base=base, device="cpu")


def test_an_adapter_goes_onto_the_revision_that_it_names(tmp_path, model_folder):
    def record(**held):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **held}))

    record(base_model_name_or_path="org/tiny", revision="step3")
    with pytest.raises(CircuitsError, match=r"^org/tiny@step3: .* the hub did not give it"):
        load_model(tmp_path, device="cpu")
    folder = str(model_folder("llama"))
    for held, found in [
        ({"base_model_name_or_path": "org/tiny", "revision": None}, "org/tiny"),
        ({"base_model_name_or_path": folder, "revision": "step3"}, folder),
    ]:
        record(**held)
        assert recorded_base(tmp_path) == found
    record(revision="step3")
    with pytest.raises(CircuitsError, match="does not name its base model"):
        recorded_base(tmp_path)


def test_an_adapter_that_is_its_own_base_is_refused(tmp_path):
    for name, base in (("own", "own"), ("a", "b"), ("b", "a"), ("c", "a")):
        (tmp_path / name).mkdir()
        record = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / base)}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(record))
    for name, back in (("own", "own"), ("a", "a"), ("c", "a")):
        place = tmp_path / name
        for read in (load_model, load_config, tokenizer_of, bases):
            with pytest.raises(CircuitsError, match=rf"^{place}: .* leads back to .*{back};"):
                read(place)


def test_an_adapter_made_here_records_the_commit_of_its_base(model_folder):
    from circuits.tuning.targets import lora_config, wrap

    base, _ = load_model(model_folder("llama"), device="cpu")
    assert wrap(base, lora_config([1], base)).peft_config["default"].revision is None
    base, _ = load_model(model_folder("llama"), device="cpu")
    base.config._commit_hash = "a" * 40
    assert wrap(base, lora_config([1], base)).peft_config["default"].revision == "a" * 40


@pytest.mark.parametrize(
    ("target", "alone"), [("lm_head", True), ("embed_tokens", True), ("v_proj", False)]
)
def test_an_adapter_on_one_of_two_tied_matrices_leaves_the_other(target, alone, adapter, tmp_path):
    config = CONFIGS["llama"]()
    config.tie_word_embeddings = True
    randomised(config).save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    folder, unmerged = adapter(tmp_path / "base", lora(target_modules=["q_proj", target]))
    model = HookedModel.from_pretrained(folder, base=tmp_path / "base", device="cpu")
    assert torch.allclose(model.hf(TOKENS).logits, unmerged, atol=1e-4)
    assert torch.allclose(model.bridge(TOKENS), unmerged, atol=1e-4)
    assert model.hf.config.tie_word_embeddings is not alone


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_what_cannot_be_merged_is_refused(kind, adapter, model_folder):
    import peft

    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=2)
    folder, _ = adapter(model_folder("llama-mha"), config)
    with pytest.raises(CircuitsError, match=r"an adapter of type PR.*; only what can be merged"):
        load_model(folder, base=model_folder("llama-mha"), device="cpu")


def test_damaged_and_foreign_weights_are_named(model_folder, tmp_path):
    network, _ = load_model(model_folder("llama"), device="cpu")
    name = "model.layers.1.mlp.up_proj.weight"
    with torch.no_grad():
        network.get_parameter(name)[0, 0] = torch.nan
    network.save_pretrained(tmp_path)
    with pytest.raises(CircuitsError, match=rf"weights hold NaN or infinity: {name}; "):
        HookedModel.from_pretrained(tmp_path, device="cpu")
    weights = load_file(tmp_path / "model.safetensors")
    weights[name] = weights[name][:-1].contiguous()
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CircuitsError, match=rf"are of another shape: {name}; "):
        load_model(tmp_path, device="cpu")


def test_what_is_left_out_of_a_checkpoint_is_said(model_folder, tmp_path, caplog):
    """A classifier is read as the language model that it was; its head has no place in that."""
    config = transformers.AutoConfig.from_pretrained(model_folder("gpt2"), num_labels=3)
    model = transformers.GPT2ForSequenceClassification(config)
    model.save_pretrained(tmp_path)
    loaded, _ = load_model(tmp_path, device="cpu")
    assert torch.equal(loaded.transformer.wte.weight, model.transformer.wte.weight)
    assert [line for line in caplog.messages if "score.weight" in line] == [
        f"warning: {tmp_path}: the checkpoint holds weights that GPT2LMHeadModel has no place for, "
        "and they are left out: score.weight"
    ]
    caplog.clear()
    load_model(model_folder("gpt2"), device="cpu")
    assert not caplog.messages
