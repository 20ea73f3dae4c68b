"""The last layer run only where it is read, against whole runs."""

import pytest
import torch
from conftest import CONFIGS, ENCODER_DECODERS

from circuits.metrics import METRICS
from circuits.models.hooks import Hooks
from circuits.models.sparse_last_layer import sparse_last_layer

METRIC = METRICS["logit-difference"]


def logits_and_gradients(model, batch, *, last_layer_at_answers):
    """Logits at the reads, and the metric's gradient at what enters every stream."""
    hooks, leaves = Hooks(), []

    def leaf(x):
        leaves.append(x.detach().requires_grad_())
        return leaves[-1]

    for stream in model.view.streams:
        hooks.before(stream.entry, leaf)
    with torch.enable_grad():
        logits = model.logits(
            batch.clean, batch, hooks, last_layer_at_answers=last_layer_at_answers
        )
        gradients = torch.autograd.grad(METRIC(logits, batch).sum(), leaves)
    return logits.detach(), gradients


@pytest.mark.parametrize("answers", [1, 3])
@pytest.mark.parametrize("name", [*CONFIGS, *ENCODER_DECODERS])
def test_equals_a_whole_run(name, answers, hooked, random_pairs):
    model = hooked(name)
    batch = next(random_pairs(n=3, answers=answers, lengths=[9, 6, 9]).batches(3))
    logits, gradients = logits_and_gradients(model, batch, last_layer_at_answers=False)
    found, found_gradients = logits_and_gradients(model, batch, last_layer_at_answers=True)
    assert logits.std() > 1e-3 and all(each.abs().max() > 1e-6 for each in gradients)
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))
    for one, other in zip(found_gradients, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("gpt2", {"attn.c_proj", "mlp.c_fc", "mlp.c_proj", "mlp.act"}),
        (
            "llama",
            {
                "self_attn.q_proj",
                "self_attn.o_proj",
                "mlp.gate_proj",
                "mlp.up_proj",
                "mlp.down_proj",
                "mlp.act_fn",
            },
        ),
        ("gpt-neox", {"attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "mlp.act"}),
        ("opt", {"self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2", "activation_fn"}),
    ],
)
def test_keys_and_values_are_made_everywhere(name, tail, hooked):
    view = hooked(name).view
    names = {module: path for path, module in view.layers[-1].block.named_modules()}
    assert {names[module] for module in view.tail} == tail


def test_modules_see_the_reads_and_hooks_everything(hooked, random_pairs):
    model, batch = hooked("gpt2"), next(random_pairs(n=2, lengths=[9, 7]).batches(2))
    hooks, seen = Hooks(), []
    hooks.after(model.view.mlps[-1].output, lambda x: seen.append(x))
    model.logits(batch.clean, batch, hooks, last_layer_at_answers=True)
    read = torch.zeros_like(batch.mask)
    read[batch.example_index, batch.position] = True
    assert seen[0].shape[:2] == batch.clean.shape
    assert bool((seen[0][read] != 0).any(dim=-1).all()) and not seen[0][~read].any()


def test_everything_is_as_before_whatever_happens(hooked):
    module = hooked("gpt2").view.tail[0]
    own = {"forward": lambda x: x}
    vars(module).update(own)  # as libraries that wrap modules do
    x, none = torch.ones(2, 3, 4), torch.zeros(1, dtype=torch.long)
    with pytest.raises(KeyboardInterrupt), sparse_last_layer([module], 2, none, none + 1):
        assert module(x).nonzero().tolist() == [[0, 1, i] for i in range(4)]
        raise KeyboardInterrupt
    assert vars(module).pop("forward") is own["forward"]
    with sparse_last_layer([module], 2, none, none):
        assert "forward" in vars(module)
    assert "forward" not in vars(module)
