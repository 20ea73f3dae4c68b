"""Loading models, and proving what is said of them."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import transformers
from conftest import CONFIGS, ENCODER_DECODERS, REFUSED, make_model, randomised

import circuits
from circuits.errors import CircuitsError
from circuits.models import HookedModel, SourceActivations, checkpoint_series
from circuits.models.checkpoints import as_device, as_dtype, resolve
from circuits.models.hooks import Hooks
from circuits.models.selfcheck import check_view
from circuits.models.view import Rescales


@pytest.mark.parametrize("name", [*CONFIGS, *ENCODER_DECODERS])
def test_every_supported_model_passes_its_own_check(name, hooked):
    model = hooked(name)
    assert model.layout.n_layers in (2, 3) and model.layout.n_heads == 4
    assert len(model.view.layers) == model.layout.n_layers
    assert model.d_vocab == 400 and model.n_ctx in (64, None)
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())


def test_the_window_of_a_model_that_sees_is_that_of_its_text(random_pairs):
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = transformers.Gemma3Config(
        text_config=CONFIGS["gemma3"]().to_dict(),
        vision_config={**vision, "num_attention_heads": 2, "image_size": 16, "patch_size": 8},
        boi_token_index=391,
        eoi_token_index=392,
        image_token_index=390,
        mm_tokens_per_image=4,
    )
    model = HookedModel(randomised(config), None, "gemma3-multimodal")
    assert model.n_ctx == 64
    with pytest.raises(CircuitsError, match="context window holds 64"):
        circuits.attribute(model, random_pairs(n=1, length=65), "eap")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("mixtral", "mixture-of-experts"), ("opt-350m", "norms after its layers")],
)
def test_what_is_not_done_is_refused_with_the_reason(name, reason):
    assert name in REFUSED
    with pytest.raises(CircuitsError, match=reason):
        HookedModel(make_model(name), None, name)


def test_state_space_models_are_refused():
    config = transformers.MambaConfig(vocab_size=400, hidden_size=16, num_hidden_layers=1)
    with pytest.raises(CircuitsError, match="state-space"):
        HookedModel(transformers.MambaForCausalLM(config), None, "mamba")


def test_models_that_fill_in_words_are_refused():
    config = transformers.BertConfig(
        vocab_size=400,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    with pytest.raises(CircuitsError, match=r"fills in masked words \(bert\) is not supported"):
        HookedModel(transformers.BertLMHeadModel(config), None, "bert")


UNKNOWN = {
    "cohere-qk-norm": lambda: transformers.CohereConfig(
        **{**CONFIGS["llama"]().to_dict(), "use_qk_norm": True}
    ),
    "opt-projected": lambda: transformers.OPTConfig(
        **{**CONFIGS["opt"]().to_dict(), "word_embed_proj_dim": 16}
    ),
    "opt-without-final-norm": lambda: transformers.OPTConfig(
        **{**CONFIGS["opt"]().to_dict(), "_remove_final_layer_norm": True}
    ),
    "longt5-global": lambda: transformers.LongT5Config(
        **{**ENCODER_DECODERS["t5"]().to_dict(), "encoder_attention_type": "transient-global"}
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_whatever_fails_while_a_view_is_made_is_a_refusal(name):
    with pytest.raises(
        CircuitsError, match="not supported: its residual-stream view could"
    ) as told:
        HookedModel(randomised(UNKNOWN[name]()), None, name)
    assert type(told.value.__cause__) in (RuntimeError, AttributeError)


def test_no_memory_is_no_refusal(monkeypatch):
    def fail(_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("circuits.models.hooked.check_view", fail)
    with pytest.raises(torch.OutOfMemoryError):
        HookedModel(make_model("gpt2"), None, "gpt2")


@contextmanager
def exchanged(attention, name, value):
    right = getattr(attention, name)
    object.__setattr__(attention, name, value)
    try:
        yield
    finally:
        object.__setattr__(attention, name, right)


def is_refused(model, message):
    """Whether the check refuses the model's view as it is now."""
    with pytest.raises(CircuitsError, match=message):
        check_view(model)


@pytest.mark.parametrize("name", ["gpt2", "llama-mha", "gpt-neox", "t5", "bart"])
@pytest.mark.parametrize("ports", ["kqv", "qvk", "vkq"])
def test_the_check_sees_two_ports_exchanged(name, ports, hooked):
    model = hooked(name)
    attention = model.view.attentions[0]
    places = {p.port: p for p in attention.projections}
    wrong = tuple(
        replace(places[other], port=port) for port, other in zip("qkv", ports, strict=True)
    )
    with exchanged(attention, "projections", wrong):
        is_refused(model, "head of .*a0 is not where the view says")
    check_view(model)


@pytest.mark.parametrize("name", ["gpt-neox", "bloom"])
def test_the_check_sees_a_fused_projection_misread(name, hooked):
    model = hooked(name)
    attention = model.view.attentions[0]
    d_head = model.view.d_head
    wrong = tuple(
        replace(p, offset=place * 4 * d_head, stride=d_head)
        for place, p in enumerate(attention.projections)
    )
    with exchanged(attention, "projections", wrong):
        is_refused(model, "head of a0 is not where the view says")


@pytest.mark.parametrize("name", ["gemma2", "olmo2"])
def test_the_check_sees_a_norm_after_attention_left_out(name, hooked):
    model = hooked(name)
    with exchanged(model.view.attentions[0], "post", None):
        is_refused(model, "with every edge kept")


def test_the_check_sees_a_norm_on_the_stream_left_out(hooked):
    model = hooked("bart")
    stream = model.view.streams[0]
    events = tuple(e for e in stream.events if not isinstance(e, Rescales))
    with exchanged(stream, "events", events):
        is_refused(model, "with every edge kept")


def test_the_check_sees_heads_in_another_order(hooked):
    """As in a fused projection that holds q, k and v head by head and is read as q, then k, ..."""
    model = hooked("gpt2")
    module = model.view.attentions[0].projections[0].module
    order = torch.arange(96).view(3, 4, 8).transpose(0, 1).flatten()
    shuffle = module.register_forward_hook(lambda _, __, out: out[..., order])
    try:
        with pytest.raises(CircuitsError, match="the residual-stream view is wrong"):
            check_view(model)
    finally:
        shuffle.remove()


def test_the_check_sees_a_path_that_bypasses_the_readers(hooked):
    """A logits bias that depends on the tokens would survive every ablation."""
    model = hooked("llama")
    batch_ids = []
    embedding = model.hf.get_input_embeddings()
    head = model.hf.get_output_embeddings()
    remember = embedding.register_forward_pre_hook(lambda _, args: batch_ids.append(args[0]))
    add = head.register_forward_hook(lambda _, __, out: out + batch_ids[-1].float().mean() * 0.01)
    try:
        with pytest.raises(CircuitsError, match="no edge kept"):
            check_view(model)
    finally:
        remember.remove()
        add.remove()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt-neox", "olmo2"])
def test_sources_add_up_to_the_stream(name, hooked, random_pairs):
    model, batch = hooked(name), next(random_pairs(n=2).batches(2))
    states, hooks, seen = SourceActivations(model.view), Hooks(), []
    states.record(hooks)
    hooks.before(model.view.final, seen.append)
    with torch.no_grad():
        model.logits(batch.clean, batch, hooks)
    total = states.widened(1, slice(2, 5)).sum(0)
    for attention in model.view.attentions:
        if attention.output_bias is not None:
            total = total + attention.output_bias
    assert torch.allclose(total, seen[0][1, 2:5], atol=1e-4)


@pytest.mark.parametrize("name", [*CONFIGS, *ENCODER_DECODERS])
def test_a_shared_prefix_is_run_once_and_changes_nothing(name, hooked, random_pairs):
    model = hooked(name)
    batch = next(random_pairs(n=3, answers=2, lengths=[20, 14, 17]).batches(3))
    rest, prefix = model.share_prefix(batch)
    if name in ENCODER_DECODERS:
        assert prefix is None and rest is batch
        return
    assert prefix.length == 14 // 3 and rest.clean.shape[1] == batch.clean.shape[1] - 14 // 3
    for tokens, whole in ((rest.clean, batch.clean), (rest.corrupted, batch.corrupted)):
        found = model.logits(tokens, rest, prefix=prefix)
        expected = model.logits(whole, batch)
        assert float((found - expected).abs().max()) <= 2e-6 * float(expected.abs().max())


def test_encoder_decoders_read_prompt_and_answer_each_in_its_window(hooked, random_pairs):
    model = hooked("bart")
    assert model.n_ctx == 64
    pairs = random_pairs(n=1, length=64, answers=5)
    batch = next(pairs.batches(1))
    alone = model.hf(
        input_ids=torch.tensor([pairs[0].clean]),
        decoder_input_ids=torch.tensor([[0, *pairs[0].teacher_forced]]),
    ).logits[0]
    assert torch.allclose(model.logits(batch.clean, batch), alone, atol=1e-5)
    assert circuits.attribute(model, pairs, "eap").matrix.any()
    for changes, message in [
        ({"length": 65}, r"65 tokens \(the prompt\), .* holds 64"),
        ({"length": 9, "answers": 65}, r"65 tokens \(the answer\), .* holds 64"),
    ]:
        with pytest.raises(CircuitsError, match=message):
            model.validate(random_pairs(n=1, **changes))
    with pytest.raises(CircuitsError, match=r"68 tokens \(answer included\)"):
        hooked("llama").validate(pairs)


def test_encoder_decoders_get_the_prompt_and_the_answer_apart(hooked, random_pairs):
    model = hooked("t5")
    pairs = random_pairs(n=2, answers=3, lengths=[9, 6])
    batch = next(pairs.batches(2))
    found = model.logits(batch.clean, batch)
    for row, place in enumerate(batch.index.tolist()):
        pair = pairs[place]
        alone = model.hf(
            input_ids=torch.tensor([pair.clean]),
            decoder_input_ids=torch.tensor([[0, *pair.teacher_forced]]),
        ).logits[0]
        assert torch.allclose(found[batch.example_index == row], alone, atol=1e-5)


def test_logits_at_reads_equal_the_models_own(hooked, random_pairs):
    model = hooked("llama")
    batch = next(random_pairs(n=3, lengths=[9, 6, 8], answers=2).batches(3))
    found = model.logits(batch.clean, batch)
    for read, (row, column) in enumerate(zip(batch.example_index, batch.position, strict=True)):
        alone = model.hf(batch.clean[row, : int(batch.mask[row].sum())][None]).logits[0, column]
        assert torch.allclose(found[read], alone, atol=1e-5)


def test_hooks_go_whatever_happens(hooked, random_pairs):
    model, batch = hooked("gpt2"), next(random_pairs(n=1).batches(1))
    before = model.logits(batch.clean, batch)

    def explode(_):
        raise RuntimeError("inside the run")

    hooks = Hooks()
    hooks.before(model.view.final, explode)
    with pytest.raises(RuntimeError, match="inside the run"):
        model.logits(batch.clean, batch, hooks)
    assert torch.equal(model.logits(batch.clean, batch), before)


def test_an_adapter_is_merged_into_its_base(model_folder, tmp_path):
    from circuits.models import load_model
    from circuits.tuning.targets import lora_config, wrap

    base, _ = load_model(model_folder("llama"), device="cpu")
    adapted = wrap(base, lora_config([1], base, rank=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(tmp_path)
    tokens = torch.arange(1, 9)[None]
    expected = adapted(tokens).logits
    model = HookedModel.from_pretrained(tmp_path, base=model_folder("llama"), device="cpu")
    assert torch.allclose(model.hf(tokens).logits, expected, atol=1e-4)
    merged, _ = load_model(tmp_path, base=model_folder("llama"), device="cpu")
    assert all(one.requires_grad for one in merged.parameters()), "it can be trained on"
    plain, _ = load_model(model_folder("llama"), device="cpu")
    assert not torch.allclose(plain(tokens).logits, expected, atol=1e-2)
    with pytest.raises(CircuitsError, match="no PEFT adapter folder"):
        HookedModel.from_pretrained(model_folder("llama"), base=model_folder("llama"))


def test_fingerprints_tell_weights_apart(hooked, model_folder):
    model = HookedModel.from_pretrained(model_folder("llama"), device="cpu")
    assert model.fingerprint == hooked("llama").fingerprint != hooked("llama-mha").fingerprint


def test_half_precision_loads_and_passes_its_check(model_folder):
    model = HookedModel.from_pretrained(model_folder("llama"), device="cpu", dtype="bfloat16")
    assert model.hf.dtype == torch.bfloat16


def test_a_series_is_in_the_order_of_its_steps(tmp_path):
    for step in (100, 20, 3):
        (tmp_path / f"step-{step}").mkdir()
    (tmp_path / "training_log.json").write_text("{}")
    assert list(checkpoint_series("gpt2", tmp_path)) == ["base", "step-3", "step-20", "step-100"]
    with pytest.raises(CircuitsError, match="holds no checkpoints"):
        checkpoint_series("gpt2", tmp_path / "step-3")
    with pytest.raises(CircuitsError, match="no such folder"):
        checkpoint_series("gpt2", tmp_path / "nothing")


def test_sources_of_models(tmp_path):
    assert resolve("org/model@main") == ("org/model", "main")
    assert resolve("gpt2") == ("gpt2", None)
    assert resolve("me/smollm2-135m") == ("me/smollm2-135m", None), "on the hub, by a short owner"
    assert resolve("newsroom-gpt2")[0].endswith("newsroom-gpt2")
    (tmp_path / "file").write_text("")
    for source, message in [
        (tmp_path / "nothing", "no such model folder"),
        ("a/b/c", "no such model folder"),
        ("./gemma3-270m-it", "no such model folder"),
        ("gemma3-270", "did you mean gemma3-270m"),
        ("", "^'': names no model; give a hub id"),
        ("@main", "^'@main': names no model"),
        (str(tmp_path / "file"), "give the model's folder"),
    ]:
        with pytest.raises(CircuitsError, match=message):
            resolve(source)


def test_names_of_devices_and_precisions():
    assert as_dtype("bfloat16") is torch.bfloat16 and as_device("cpu").type == "cpu"
    with pytest.raises(CircuitsError, match="unknown dtype 'float8'; known: float32"):
        as_dtype("float8")
    with pytest.raises(CircuitsError, match="unknown device 'toaster'"):
        as_device("toaster")
    for name in ("xpu:97", "cuda:97", "mps:97", "meta"):
        with pytest.raises(CircuitsError, match=f"^{name}: no such device here"):
            as_device(name)
