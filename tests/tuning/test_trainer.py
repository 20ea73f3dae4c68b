"""The Trainer beneath fine-tuning against the slow way, and what its settings change."""

from __future__ import annotations

import csv
import gc
import random
import weakref
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from oracles import training
from transformers import AutoModelForCausalLM, set_seed

from circuits.errors import CircuitsError
from circuits.models.lean_training import fused_activations
from circuits.options.tuning import FinetuneSettings
from circuits.tuning.batches import (
    Share,
    collate,
    fed_length,
    training_order,
    training_pieces,
)
from circuits.tuning.finetune import finetune
from circuits.tuning.loss import target_logits
from circuits.tuning.targets import lora_config, wrap
from circuits.tuning.training_tables import require_writers
from circuits.tuning.undisturbed import only_new_garbage, own_random_numbers

PLAIN = FinetuneSettings(
    steps=5, learning_rate=1e-2, warmup_steps=2, batch_size=4, weight_decay=0.1, clip=0.5
)


def batches(examples, settings):
    """The examples of each step, from the stated order of the data."""
    lengths, epoch, found = [fed_length(one) for one in examples], 0, []
    while len(found) < settings.steps:
        found += training_order(lengths, settings.batch_size, seed=settings.seed, epoch=epoch)
        epoch += 1
    return [[examples[i] for i in index] for index in found[: settings.steps]]


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(found, expected, tolerance=1e-5):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        scale = float(tensor.abs().max())
        assert torch.allclose(found[name], tensor, atol=tolerance * scale, rtol=0), name


@pytest.mark.parametrize("accumulation", [1, 3, 7])
def test_training_equals_the_slow_way(accumulation, small_gpt2_folder, make_examples, tmp_path):
    """9 examples in batches of 4: the last batch of an epoch has fewer examples than pieces."""
    examples = make_examples(9)
    slow = AutoModelForCausalLM.from_pretrained(small_gpt2_folder)
    before = weights(slow)
    losses = training.train(slow, batches(examples, PLAIN), PLAIN)
    model = AutoModelForCausalLM.from_pretrained(small_gpt2_folder)
    settings = replace(PLAIN, accumulation=accumulation)
    result = finetune(model, examples, tmp_path, settings=settings, progress=False)
    assert [entry.loss for entry in result.log.steps] == pytest.approx(losses, rel=1e-5)
    assert losses[-1] < losses[0] - 0.1
    after = weights(slow)
    moved = {name: after[name] - before[name] for name in after}
    assert all(float(change.abs().max()) > 1e-3 for change in moved.values())
    found = weights(model)
    for layer in range(2):  # keys' biases have no gradient but rounding's, and Adam makes it large
        for named in (found, after):
            del named[f"transformer.h.{layer}.attn.c_attn.bias"]
    assert_same(found, after, tolerance=3e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_layers_run_again_change_nothing(name, load, make_examples, tmp_path):
    """Dropout included, in the adapter and in the model."""

    def trained(checkpointing):
        model, runs = load(name), []
        torch.manual_seed(0)
        model = wrap(model, lora_config([0, 1], model, rank=2, dropout=0.2))
        layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
        inside = next(layers[1].children())  # the layer's own hooks stand outside of what is again
        inside.register_forward_pre_hook(lambda *_: runs.append(1))
        settings = replace(PLAIN, gradient_checkpointing=checkpointing)
        out = tmp_path / str(checkpointing)
        finetune(model, make_examples(6), out, settings=settings, progress=False)
        plain = model.get_base_model()
        assert not plain.is_activation_checkpointing
        assert not plain.get_input_embeddings()._forward_hooks
        return weights(model), len(runs)

    (plain, once), (again, twice) = trained(False), trained(True)
    assert (once, twice) == (5, 10)
    assert_same(again, plain, tolerance=1e-6)


def test_bfloat16_multiplies_and_nothing_else(small_gpt2_folder, make_examples, tmp_path):
    examples, seen = make_examples(9), []
    model = AutoModelForCausalLM.from_pretrained(small_gpt2_folder)
    watched = model.transformer.h[0].mlp.c_fc
    handle = watched.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    settings = replace(PLAIN, bf16=True, validate_every=5)
    result = finetune(
        model, examples, tmp_path, settings=settings, validation=examples, progress=False
    )
    handle.remove()
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    saved = AutoModelForCausalLM.from_pretrained(result.last, dtype="auto")
    assert saved.dtype == torch.float32
    full = AutoModelForCausalLM.from_pretrained(small_gpt2_folder)
    exact = finetune(full, examples, tmp_path / "full", settings=PLAIN, progress=False)
    losses = [[entry.loss for entry in run.log.steps] for run in (result, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[1, 2]])).logits
    assert logits.dtype == torch.float32 and watched(torch.zeros(1, 32)).dtype == torch.float32


def test_the_model_is_left_as_it_was(load, make_examples, tmp_path):
    model = load("gpt2").eval()
    before = {name: value for name, value in vars(model).items() if name != "training"}
    settings = replace(PLAIN, bf16=True)
    result = finetune(model, make_examples(4), tmp_path, settings=settings, progress=False)
    assert not model.training and model.config.use_cache is True
    assert vars(model).keys() - {"training"} == before.keys()
    saved = AutoModelForCausalLM.from_pretrained(result.last)
    assert saved.config.use_cache is True


def test_generators_are_put_back():
    def drawn():
        return (random.random(), np.random.rand(), float(torch.rand(1)))

    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = drawn()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    with pytest.raises(ZeroDivisionError), own_random_numbers():
        set_seed(4)
        assert drawn() != expected
        raise ZeroDivisionError
    assert drawn() == expected


def test_processes_and_pieces_share_each_step(make_examples):
    """Every example of a step is run once, by one process in one piece."""
    examples = make_examples(10)
    whole = list(islice(training_pieces(examples, 4, seed=3), 7))
    for processes, pieces in ((2, 1), (1, 2), (2, 2), (3, 2)):
        shares = [
            list(
                islice(
                    training_pieces(examples, 4, seed=3, share=Share(pieces, processes, rank)),
                    7 * pieces,
                )
            )
            for rank in range(processes)
        ]
        for step, expected in enumerate(whole):
            parts = [
                piece for share in shares for piece in share[step * pieces : (step + 1) * pieces]
            ]
            labels = sorted(label for piece in parts for label in piece.batch.labels.tolist())
            assert labels == sorted(expected.batch.labels.tolist())
            assert {piece.step_targets for piece in parts} == {len(labels)}


def test_padding_changes_no_logit(load, make_examples):
    for name in ("gpt2", "llama", "gemma2"):
        model, examples = load(name).eval(), make_examples(5)
        with torch.no_grad():
            together = target_logits(model, collate(examples))
            alone = torch.cat([target_logits(model, collate([one])) for one in examples])
        assert float(alone.abs().max()) > 0.1
        assert torch.allclose(together, alone, atol=1e-5 * float(alone.abs().max()), rtol=0)


def test_the_log_is_a_table_too(load, make_examples, tmp_path):
    settings = replace(PLAIN, validate_every=2, log_to=("csv",), save_state_every=2)
    given = {"settings": settings, "validation": make_examples(3, seed=1), "progress": False}
    result = finetune(load("gpt2"), make_examples(9), tmp_path, **given)
    with (tmp_path / "training_log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert [float(row["loss"]) for row in rows[1:]] == [one.loss for one in result.log.steps]
    assert [float(row["learning_rate"]) for row in rows[1:]] == [
        settings.rate(step) for step in range(1, 6)
    ]
    measured = {int(row["step"]): row["validation_loss"] for row in rows if row["validation_loss"]}
    assert measured == {one.step: str(one.loss) for one in result.log.validation}
    assert list(measured) == [0, 2, 4, 5]
    (tmp_path / "training_log.csv").unlink()
    finetune(load("gpt2"), make_examples(9), tmp_path, **given)  # finished: the table is made again
    assert (tmp_path / "training_log.csv").exists()


def test_a_writer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("circuits.tuning.training_tables.find_spec", lambda name: None)
    with pytest.raises(
        CircuitsError, match=r"log_to tensorboard: .* install the extra tensorboard"
    ):
        require_writers(("csv", "tensorboard"))
    require_writers(("csv",))


def test_checkpoints_evenly_spaced_in_their_logarithms(load, make_examples, tmp_path):
    spaced = FinetuneSettings(steps=1000, log_checkpoints=4).kept_steps
    assert sorted(spaced) == [1, 10, 100, 1000]
    assert sorted(FinetuneSettings(steps=1000, log_checkpoints=1).kept_steps) == [1]
    many = sorted(FinetuneSettings(steps=8, log_checkpoints=20, checkpoint_steps=(7,)).kept_steps)
    assert many == [1, 2, 3, 4, 5, 6, 7, 8]
    settings = replace(PLAIN, steps=9, log_checkpoints=3, checkpoint_steps=(5,))
    result = finetune(load("gpt2"), make_examples(4), tmp_path, settings=settings, progress=False)
    assert list(result.checkpoints) == [1, 3, 5, 9]


def test_the_fused_gelu_is_the_same_function(load):
    model = load("gpt2")
    part = model.transformer.h[0].mlp.act
    x = torch.linspace(-6, 6, 4001, requires_grad=True)
    found = []
    for context in (nullcontext(), fused_activations(model)):
        with context:
            y = part(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
        found.append((y.detach(), slope, type(y.grad_fn).__name__))
    (plain, slope, name), (fused, other, kernel) = found
    assert name != kernel == "GeluBackward0"
    assert torch.allclose(fused, plain, atol=2e-6) and torch.allclose(other, slope, atol=2e-6)
    assert "forward" not in vars(part)


def test_garbage_of_a_run_is_gone_after_it(load, make_examples, tmp_path):
    """What was there before is set apart, and put back; a caller's own setting apart is left."""
    states = []
    init = torch.optim.AdamW.__init__

    class Watched(torch.optim.AdamW):
        def __init__(self, *given, **named):
            init(self, *given, **named)
            states.append(weakref.ref(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.optim.AdamW", Watched)
        finetune(load("gpt2"), make_examples(4), tmp_path, settings=PLAIN, progress=False)
    assert [state() for state in states] == [None]
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        with only_new_garbage():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
