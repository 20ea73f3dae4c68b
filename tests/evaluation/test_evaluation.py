"""Faithfulness, minimality, robustness."""

import pytest
import torch
from oracles.split_paths import SplitPaths

import circuits
from circuits.errors import UndefinedMetricError
from circuits.evaluation import (
    Condition,
    CurveConfig,
    MinimalityConfig,
    faithfulness,
    minimality,
    robustness,
)
from circuits.graph import Circuit, EdgeScores, select
from circuits.metrics import METRICS
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairSet, PromptPair


@pytest.fixture(scope="module")
def scored(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=6, seed=1)
    return model, circuits.attribute(model, pairs), random_pairs(n=5, seed=2)


def oracle_share(model, pairs, circuit):
    """f by the slow oracle: means over examples of the metric on whole logits."""
    view = model.view
    split = SplitPaths(model.hf, view.layout.n_heads, view.layout.n_kv_heads, view.d_head)
    totals = torch.zeros(3)
    for place in range(len(pairs)):
        batch = pairs.batch([place])
        runs = [
            split.run(batch.clean)[0],
            split.run(batch.corrupted)[0],
            split.execute(batch.clean, batch.corrupted, circuit.mask),
        ]
        for index, logits in enumerate(runs):
            reads = logits[batch.example_index, batch.position]
            totals[index] += float(METRICS["logit-difference"](reads, batch)[0])
    return float((totals[2] - totals[1]) / (totals[0] - totals[1]))


def test_curve_ends_at_the_model_and_equals_the_oracle(scored):
    model, scores, pairs = scored
    curve = faithfulness(model, scores, pairs, curve=CurveConfig(fractions=(0.1, 0.5, 1.0)))
    for name in ("signed", "absolute", "random"):
        assert curve.curves[name].values[-1].value == pytest.approx(1.0, abs=1e-4)
        assert curve.curves[name].sizes[-1] == scores.layout.n_edges
    for place, edges in enumerate(curve.curves["absolute"].sizes):
        circuit = select(scores, size=edges)
        found = curve.values[place]
        assert found.value == pytest.approx(oracle_share(model, pairs, circuit), abs=1e-3)
        assert found.low <= found.value <= found.high


def test_areas_are_trapezoids(scored):
    model, scores, pairs = scored
    axis = (0.2, 0.5, 1.0)
    curve = faithfulness(model, scores, pairs, curve=CurveConfig(fractions=axis))
    signed = [value.value for value in curve.curves["signed"].values]
    area = 0.3 * (signed[0] + signed[1]) / 2 + 0.5 * (signed[1] + signed[2]) / 2
    assert curve.cpr.value == pytest.approx(area, abs=1e-6)
    off = [abs(1 - value.value) for value in curve.values]
    distance = 0.3 * (off[0] + off[1]) / 2 + 0.5 * (off[1] + off[2]) / 2
    assert curve.cmd.value == pytest.approx(distance, abs=1e-6)


def test_equal_metrics_are_named(hooked):
    """The wrong answer's logits cannot differ where the corrupted token comes after the read."""
    pair = PromptPair((5, 6, 7), (5, 6, 8), ((1,),), ((2,),), source="row 1")
    late = PairSet((pair,), metric="logit-difference")
    model = hooked("gpt2")
    scores = EdgeScores(torch.zeros(model.layout.shape), model.layout, "zeros")
    batch = late.batch([0])
    object.__setattr__(batch, "position", torch.tensor([1]))

    class Early(PairSet):
        def batch(self, index):
            return batch

    with pytest.raises(UndefinedMetricError, match=r"logit-difference is .* and .* on the corrupt"):
        faithfulness(model, scores, Early(late.pairs, metric="logit-difference"))


def test_minimality_equals_the_oracle_and_finds_the_redundant_edge(scored):
    model, scores, pairs = scored
    circuit = select(scores, size=20)
    # An edge that leads nowhere is redundant by construction.
    outside = (scores.mask & ~circuit.mask).nonzero().tolist()
    dead = next(
        (row, column)
        for row, column in outside
        if len(Circuit(circuit.layout, circuit.mask | _one(circuit, row, column)).pruned())
        == len(circuit)
    )
    padded = Circuit(circuit.layout, circuit.mask | _one(circuit, *dead))
    found = minimality(model, padded, pairs, config=MinimalityConfig(n_controls=5))
    assert found.drops[circuit.layout.edge_name(*dead)].value == pytest.approx(0.0, abs=1e-6)
    whole = oracle_share(model, pairs, circuit)
    assert found.faithfulness.value == pytest.approx(whole, abs=1e-3)
    for edge in list(found.drops)[:3]:
        mask = padded.mask.clone()
        mask[circuit.layout.edge(edge)] = False
        left = oracle_share(model, pairs, Circuit(circuit.layout, mask))
        assert found.drops[edge].value == pytest.approx(whole - left, abs=2e-3)
    assert 0 < found.redundant_fraction < 1
    assert len(found.control) == 5
    assert list(found.drops.values()) == sorted(found.drops.values(), key=lambda x: -x.value)


def _one(circuit, row, column):
    mask = torch.zeros_like(circuit.mask)
    mask[row, column] = True
    return mask


def test_an_empty_circuit_is_refused(scored):
    model, scores, pairs = scored
    with pytest.raises(circuits.CircuitsError, match="an empty circuit"):
        minimality(model, Circuit.empty(scores.layout), pairs)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (
            Condition("m", Estimate(0.767, 0.55, 1.07, 16), Estimate(0.01, 0.0, 0.02, 16)),
            "the circuit keeps 77% of the behaviour (95 % interval 55% to 107%), a random one of "
            "its size 1%",
        ),
        (
            Condition("m", Estimate(0.3, 0.1, 0.5, 16), Estimate(0.2, 0.0, 0.3, 16)),
            "the circuit keeps 30% of the behaviour (95 % interval 10% to 50%), a random one of "
            "its size 20%; that it keeps more than a random one is not shown",
        ),
        (
            Condition("m", Estimate(0.767, 0.55, 1.07, 16), Estimate(-0.001, -0.002, 0.0, 16)),
            "the circuit keeps 77% of the behaviour (95 % interval 55% to 107%), a random one of "
            "its size 0%",
        ),
        (
            Condition("m", None, None, undefined_reason="both are 2"),
            "nothing can be said: both are 2",
        ),
    ],
)
def test_a_verdict_in_words(condition, said):
    assert condition.verdict == said


def test_robustness_reports_each_condition_with_a_control(scored, random_pairs):
    model, scores, pairs = scored
    circuit = select(scores, size=scores.layout.n_edges // 2)
    found = robustness(model, circuit, {"same": pairs, "longer": random_pairs(n=4, length=14)})
    assert found["same"].circuit.value == pytest.approx(
        oracle_share(model, pairs, circuit), abs=1e-3
    )
    assert found["longer"].circuit.n == 4 and found["longer"].control is not None


def test_interval_of_a_mean_covers_it():
    """The 95 % interval of a mean of 40 covers the truth in 95 % of samples, give or take."""
    draw = torch.Generator().manual_seed(0)
    hits = 0
    for trial in range(300):
        sample = torch.randn(40, 1, generator=draw, dtype=torch.float64) + 2.0
        (found,) = estimates(sample, lambda means: means, n_resamples=400, seed=trial)
        hits += found.low <= 2.0 <= found.high
    assert 0.90 <= hits / 300 <= 0.98
