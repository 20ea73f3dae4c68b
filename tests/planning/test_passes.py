"""Passes without data against the same passes with data, and against arithmetic by hand."""

from dataclasses import replace

import pytest
import torch
from conftest import CONFIGS, make_model
from transformers import GPT2Config, T5Config

from circuits.errors import CircuitsError
from circuits.models.architecture import separable
from circuits.models.quantised import QuantisedLinear, quantise
from circuits.models.sparse_last_layer import sparse_last_layer
from circuits.planning.counter import Counter, storages
from circuits.planning.passes import Shape, count_passes
from circuits.tuning.targets import Projections


def saved_bytes(model, tokens, mask):
    """Bytes that autograd keeps of a real forward pass, each storage once, without the weights."""
    kept = {}
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    hooks = [
        model.get_input_embeddings().register_forward_hook(
            lambda _, __, output: output.detach().requires_grad_()
        ),
        model.get_output_embeddings().register_forward_pre_hook(lambda _, args: args[0][:, -1:]),
    ]
    rows, last = torch.arange(len(tokens)), torch.full((len(tokens),), tokens.shape[1] - 1)
    narrow = sparse_last_layer(separable(model)[0], len(tokens), rows, last)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), narrow:
        logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    assert logits.requires_grad
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.exhaustive_but(
    "gpt2-*", "llama-True", "gemma2-True", "gpt-neox-True", "gptj-True", "bloom-True"
)
def test_kept_is_what_autograd_keeps(name, padded):
    model = make_model(name).requires_grad_(False)
    tokens = torch.randint(1, 400, (3, 48), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[1, 40:] = 0
    real = saved_bytes(model, tokens, mask if padded else None)
    found = count_passes(CONFIGS[name](), Shape(3, 48, padded=padded)).step.saved
    assert real > 100_000
    assert found == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operations_and_weights_by_hand(dtype):
    d, layers, d_vocab, batch, length, answer_positions = 32, 3, 400, 2, 20, 5
    traced = count_passes(CONFIGS["gpt2"](), Shape(batch, length, answer_positions, dtype))
    tokens = batch * length
    unembedding = 2 * batch * answer_positions * d * d_vocab
    assert traced.forward.matmul == 2 * tokens * layers * 12 * d**2 + unembedding
    spared = (
        2 * batch * (length - answer_positions) * 9 * d**2
    )  # the last layer's output matrix and MLP
    assert traced.step.matmul == 2 * (traced.forward.matmul - spared)
    assert traced.forward.attention == 2 * 2 * layers * tokens * length * d
    assert traced.parameters == make_model("gpt2").num_parameters()
    buffers = sum(buffer.nbytes for buffer in make_model("gpt2").buffers())
    assert traced.weights == traced.parameters * dtype.itemsize + buffers
    assert traced.forward.saved < traced.forward.peak < traced.step.saved < traced.step.peak


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_quantised_weights_have_the_bytes_of_a_quantised_model(name, kind):
    model = make_model(name)
    plain = count_passes(CONFIGS[name](), Shape(2, 20))
    traced = count_passes(CONFIGS[name](), Shape(2, 20), quantize=kind)
    quantise(model, kind)
    assert traced.weights == sum(storages([*model.parameters(), *model.buffers()]).values())
    assert traced.weights < 0.7 * plain.weights
    assert traced.parameters == plain.parameters == make_model(name).num_parameters()
    layers = [one for one in model.modules() if isinstance(one, QuantisedLinear)]
    largest = 4 * max(layer.shape[0] * layer.shape[1] for layer in layers)
    long = Shape(2, 1)
    beside = count_passes(CONFIGS[name](), long, quantize=kind).forward.peak
    assert beside > count_passes(CONFIGS[name](), long).forward.peak
    assert largest < beside
    assert traced.step.matmul == plain.step.matmul


def test_the_same_passes_are_counted_once():
    config, shape = CONFIGS["llama"](), Shape(1, 4)
    first = count_passes(config, shape)
    assert count_passes(CONFIGS["llama"](), shape) is first
    config.num_hidden_layers = 2
    assert count_passes(config, shape).parameters < first.parameters


def test_costs_grow_as_they_should():
    config = CONFIGS["llama"]()
    one, two = (count_passes(config, Shape(batch, 32)).step for batch in (1, 2))
    assert two.matmul == 2 * one.matmul and two.attention == 2 * one.attention
    assert 1.9 * one.saved < two.saved < 2 * one.saved
    long = count_passes(config, Shape(1, 64)).step
    assert long.attention == 4 * one.attention and long.matmul < 2 * one.matmul
    assert long.saved < 2.1 * one.saved  # no attention pattern is kept


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_shared_start_is_run_once(name):
    whole = count_passes(CONFIGS[name](), Shape(2, 48))
    split = count_passes(CONFIGS[name](), Shape(2, 48, shared=32))
    assert split.prefix is not None and whole.prefix is None
    unembedding = 2 * 2 * 32 * 400
    assert split.forward.matmul - unembedding == (whole.forward.matmul - unembedding) / 3
    assert split.prefix.matmul - unembedding == (whole.forward.matmul - unembedding) * 2 / 3
    assert split.forward.attention == whole.forward.attention / 3
    assert whole.step.saved / 3 < split.step.saved < whole.step.saved


def test_float32_on_cuda_keeps_the_pattern_of_grouped_heads_only():
    def kept(name, **device):
        return count_passes(CONFIGS[name](), Shape(2, 64, **device)).step.saved

    patterns = 3 * 2 * 4 * 64**2 * 4
    assert kept("llama", device="cuda") > kept("llama") + 0.9 * patterns
    assert kept("llama-mha", device="cuda") == kept("llama-mha")
    half = {"dtype": torch.bfloat16}
    assert kept("llama", device="cuda", **half) == kept("llama", **half)


def test_training_keeps_moments_and_gradients_of_the_weights():
    config, shape = CONFIGS["gpt2"](), Shape(1, 4)
    frozen, trained = count_passes(config, shape), count_passes(config, shape, trains="weights")
    parameters = 4 * trained.parameters
    assert trained.trained == parameters and frozen.trained == 0
    assert trained.step.peak > frozen.step.peak + 3 * parameters
    assert trained.step.matmul > 1.4 * frozen.step.matmul
    assert trained.step.moved > frozen.step.moved + 10 * parameters


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt-neox"])
@pytest.mark.exhaustive_but("llama")
def test_an_adapter_trains_little(name):
    shape = Shape(2, 32)
    lora, whole = (
        count_passes(CONFIGS[name](), shape, trains=which) for which in ("lora", "weights")
    )
    model = make_model(name)
    maps = [one for layer in Projections.of(model).maps for one in layer.values()]
    by_hand = 4 * 8 * sum(one.inputs + one.outputs for one in maps)
    assert lora.trained == by_hand
    assert lora.weights == whole.weights + by_hand
    assert lora.step.peak < whole.step.peak - 2 * (whole.trained - lora.trained)


def dropping(share):
    """The small GPT-2 with dropout of attention alone."""
    config = CONFIGS["gpt2"]()
    config.attn_pdrop, config.resid_pdrop, config.embd_pdrop = share, 0.0, 0.0
    return config


def test_dropout_in_training_keeps_the_pattern_on_a_cpu():
    on, off = (dropping(p) for p in (0.1, 0.0))
    shape, patterns = Shape(2, 64), 3 * 2 * 4 * 64**2 * 4
    kept = [count_passes(config, shape, trains="weights").step.saved for config in (on, off)]
    assert kept[0] > kept[1] + 2 * patterns
    on_cuda = replace(shape, device="cuda")
    assert count_passes(on, on_cuda, trains="weights").step.saved < kept[0] - 2 * patterns
    assert count_passes(on, shape).step.saved == count_passes(off, shape).step.saved


def test_counter_sees_births_and_deaths():
    outside = torch.zeros(10)
    with Counter([outside]) as counter:
        a = torch.zeros(100)
        b = a + outside[0]
        assert counter.live == 800
        del a
        assert counter.live == 400
        c = b.view(10, 10) @ b.view(10, 10)
    assert counter.peak == 800 and counter.live == 800
    assert counter.matmul == 2 * 10**3 and c.shape == (10, 10)
    assert counter.moved == 400 + (400 + 4 + 400)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (T5Config(), "T5Config: no language model"),
        (GPT2Config(n_embd=30, n_head=4), "GPT2Config: no language model"),
    ],
)
def test_what_cannot_be_traced_is_refused(config, message):
    with pytest.raises(CircuitsError, match=message):
        count_passes(config, Shape(1, 8))
