"""Batch sizes that nobody gave: what the plan lets through, and that nothing else depends on it."""

from importlib import import_module

import pytest
import torch
from conftest import CONFIGS, ENCODER_DECODERS
from named_job import job_of

import circuits
from circuits.attribution import cost_of
from circuits.errors import CircuitsError
from circuits.graph import Circuit
from circuits.options.run import RunOptions
from circuits.planning import (
    Shape,
    choose_batch_size,
    choose_recomputation,
    largest_batch,
    plan,
)
from circuits.planning import microbatch as chooser
from circuits.runtime.notices import say

LENGTH, N = 24, 100
USUAL = 2048 // LENGTH


@pytest.fixture
def device_of(monkeypatch):
    """Give the device so many bytes beside the model's weights, share and all."""

    def give(model, left, models=1):
        weights = models * sum(t.nbytes for t in {*model.hf.parameters(), *model.hf.buffers()})
        monkeypatch.setattr(chooser, "total_memory", lambda _: 2 * (weights + left))

    return give


@pytest.mark.parametrize("name", CONFIGS)
def test_every_decoder_is_planned(hooked, random_pairs, name, caplog):
    model = hooked(name)
    caplog.set_level("DEBUG", logger="circuits")
    pairs = random_pairs(n=N, length=LENGTH)
    caplog.clear()  # of what loading said, where it is loaded for this test
    assert choose_batch_size(model, pairs, cost_of("eap-ig"), 5) == USUAL
    assert not caplog.records  # nothing was said of a plan that failed


@pytest.mark.parametrize("method", ["eap-ig", "evaluate", "diff"])
@pytest.mark.exhaustive_but("eap-ig")
def test_no_more_than_fits(hooked, random_pairs, device_of, method):
    model, pairs = hooked("llama"), random_pairs(n=N, length=LENGTH)
    config, job = CONFIGS["llama"](), job_of(Shape(7, LENGTH), method, n=N)
    left = plan(config, job).working + 1000
    models = 2 if method == "diff" else 1
    device_of(model, left, models)
    found = choose_batch_size(model, pairs, cost_of(method))
    assert found == largest_batch(config, job, left) == 7
    device_of(model, 1000, models)
    assert choose_batch_size(model, pairs, cost_of(method)) == 1


@pytest.mark.exhaustive
def test_steps_and_lengths_count(hooked, random_pairs, device_of):
    model, pairs = hooked("llama"), random_pairs(n=N, length=LENGTH)
    device_of(model, plan(CONFIGS["llama"](), job_of(Shape(20, LENGTH), steps=5)).working)
    cost = cost_of("eap-ig")
    one, five = (choose_batch_size(model, pairs, cost, k) for k in (1, 5))
    assert USUAL > one >= five > 1
    mixed = random_pairs(n=2 * N, lengths=[LENGTH] * N + [2 * LENGTH] * N)
    assert choose_batch_size(model, mixed, cost_of("eap-ig"), 5) < five


def test_recomputation_is_chosen_where_not_one_pair_fits(
    hooked, random_pairs, device_of, caplog, monkeypatch
):
    """Sources meet readers in little room, so that the passes are what takes memory."""
    monkeypatch.setattr("circuits.runtime.limits.CHUNK_BYTES", 1)
    monkeypatch.setattr("circuits.runtime.limits.CHUNK_SHARE", 0)
    model, pairs, cost = hooked("llama"), random_pairs(n=4, length=LENGTH), cost_of("eap-ig")
    one, again = (
        plan(CONFIGS["llama"](), job_of(Shape(1, LENGTH), recompute=told)).working
        for told in (False, True)
    )
    assert again < one
    say.cache_clear()
    device_of(model, one)
    assert not choose_recomputation(model, pairs, cost) and not caplog.text
    expected = circuits.attribute(model, pairs, options=RunOptions(1), per_example=True)
    device_of(model, again)
    assert choose_recomputation(model, pairs, cost)
    assert not choose_recomputation(model, pairs, cost, False)
    assert not choose_recomputation(model, pairs, cost_of("evaluate"))
    found = circuits.attribute(model, pairs, per_example=True)
    assert caplog.messages == [
        f"warning: not one pair of {LENGTH} tokens fits as it is, so layers are run again in the "
        "backward pass, which takes about a third more time and gives the same scores (recompute)"
    ]
    assert found.provenance.batch_size == 1
    off = (found.per_example - expected.per_example).abs().max()
    assert off <= 1e-6 * expected.per_example.abs().max()


def test_usual_sizes_where_there_is_no_plan(hooked, random_pairs, monkeypatch):
    pairs = random_pairs(n=N, length=LENGTH)
    for name in ENCODER_DECODERS:
        assert choose_batch_size(hooked(name), pairs, cost_of("eap-ig"), 5) == USUAL

    def unknown(_):
        raise CircuitsError("its memory is not known")

    monkeypatch.setattr(chooser, "total_memory", unknown)
    assert choose_batch_size(hooked("gpt2"), pairs, cost_of("eap-ig"), 5) == USUAL
    assert choose_batch_size(hooked("gpt2"), pairs, cost_of("diff")) == 1024 // LENGTH
    assert choose_batch_size(hooked("gpt2"), pairs[:3], cost_of("eap-ig"), 5) == 3


def test_planning_draws_nothing(hooked, random_pairs):
    chooser._largest.cache_clear()
    before = torch.get_rng_state()
    choose_batch_size(hooked("gpt2"), random_pairs(n=N, length=LENGTH), cost_of("eap-ig"), 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_scores_say_what_was_chosen(hooked, random_pairs, device_of):
    model, pairs = hooked("gpt2"), random_pairs(n=6, length=LENGTH)
    whole = circuits.attribute(model, pairs)
    assert whole.provenance.batch_size == 6
    config = CONFIGS["gpt2"]()
    device_of(model, plan(config, job_of(Shape(2, LENGTH))).working)
    parts = circuits.attribute(model, pairs)
    nodes = circuits.attribution.attribute_nodes(model, pairs)
    assert parts.provenance.batch_size == nodes.provenance.batch_size == 2
    assert circuits.attribute(model, pairs, options=RunOptions(4)).provenance.batch_size == 4
    scale = float(whole.matrix.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(parts.matrix, whole.matrix, atol=1e-5 * scale, rtol=0)


def test_evaluation_runs_in_batches_that_fit(hooked, random_pairs, device_of, monkeypatch):
    model, pairs = hooked("gpt2"), random_pairs(n=6, length=LENGTH)
    device_of(model, plan(CONFIGS["gpt2"](), job_of(Shape(2, LENGTH), "evaluate")).working)
    module = import_module("circuits.evaluation.measure")
    sizes, real = [], module.CircuitRunner

    def watched(model, batch, constants):
        sizes.append(len(batch))
        return real(model, batch, constants)

    monkeypatch.setattr(module, "CircuitRunner", watched)
    module.measure(model, pairs, [Circuit.empty(model.layout)])
    assert sizes == [2, 2, 2]


def test_a_diff_of_models_runs_in_batches_that_fit(hooked, random_pairs, device_of, monkeypatch):
    model, pairs = hooked("gpt2"), random_pairs(n=6, length=LENGTH)
    job = job_of(Shape(3, LENGTH), "diff")
    device_of(model, plan(CONFIGS["gpt2"](), job).working, models=2)
    module = import_module("circuits.model_diff.documents")
    sizes, real = [], module.diff_batch

    def watched(model, base, batch, keys):
        sizes.append(len(batch))
        return real(model, base, batch, keys)

    monkeypatch.setattr(module, "diff_batch", watched)
    module.diff_documents(model, model, pairs)
    assert sizes[:2] == [3, 3]
