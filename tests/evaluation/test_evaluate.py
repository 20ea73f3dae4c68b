"""The record of everything; and what cannot be measured is named, never NaN."""

import json

import pytest
import torch

import circuits
from circuits.errors import UndefinedMetricError
from circuits.evaluation import (
    EvalConfig,
    evaluate,
    faithfulness,
    measure,
    nothing_left,
    tune_positive_ratio,
)
from circuits.evaluation.measure import shares
from circuits.graph import Circuit, EdgeScores, edge_order, select
from circuits.statistics.estimate import estimates
from tasks.pairs import PairSet

EVERY = EvalConfig(
    minimality=3, minimality_controls=4, completeness=4, completeness_sets=2, stability=6
)


@pytest.fixture(
    scope="module", params=[pytest.param("gpt2", marks=pytest.mark.exhaustive), "llama"]
)
def scored(request, hooked, random_pairs):
    model = hooked(request.param)
    scores = circuits.attribute(model, random_pairs(n=6, seed=1), per_example=True)
    return model, scores, random_pairs(n=5, seed=2)


def test_everything_is_in_the_record(scored, random_pairs):
    model, scores, pairs = scored
    circuit = select(scores, size=30)
    found = evaluate(
        *(model, scores, circuit, pairs),
        conditions={"longer": random_pairs(n=4, length=14)},
        questions=EVERY,
    )
    json.dumps(found, allow_nan=False)
    assert set(found["robustness"]) == {"evaluate", "longer"}
    assert found["circuit"]["faithfulness"] == found["robustness"]["evaluate"]["circuit"]
    assert found["circuit"]["edges"] == len(circuit) and found["circuit"]["nothing_left"] is None
    assert len(found["minimality"]["falls"]) == len(circuit)
    assert found["minimality"]["faithfulness"]["n"] == 3
    assert found["completeness"]["searched"] == 2 == found["completeness"]["mean"]["n"]
    assert found["stability"]["n_resamples"] == 6
    assert set(found["stability"]["circuit"]) == set(circuit.edges)
    assert found["faithfulness"]["strategy"] == "widest-path"
    whole = select(scores, size=30, strategy="top-n", prune=False)
    asked = EvalConfig(stability=2)
    resampled = evaluate(*(model, scores, whole, pairs), questions=asked)["stability"]
    assert set(resampled["circuit"]) == set(whole.edges) != set(whole.pruned().edges)
    again = evaluate(*(model, scores, circuit, pairs), questions=EVERY)
    assert again["completeness"] == found["completeness"], "the same seed, the same record"
    bare = evaluate(model, EdgeScores(scores.matrix, scores.layout, "x"), circuit, pairs)
    assert bare["stability"] is bare["minimality"] is bare["completeness"] is None


def test_the_curve_follows_the_circuits_rule(scored):
    model, scores, pairs = scored
    found = evaluate(model, scores, select(scores, size=30, strategy="top-n"), pairs)
    curve = faithfulness(model, scores, pairs, strategy="top-n")
    assert found["faithfulness"] == curve.to_dict()
    paths = faithfulness(model, scores, pairs)
    assert paths.values != curve.values and paths.curves["random"] == curve.curves["random"]


def test_points_of_a_curve(scored):
    """Sizes as the benchmark's code takes them, what pruning leaves, and f early on."""
    model, scores, pairs = scored
    curve = faithfulness(model, scores, pairs, strategy="top-n", controls=2)
    n = scores.layout.n_edges
    absolute, random = curve.curves["absolute"], curve.curves["random"]
    assert absolute.sizes == tuple(int(share * n) for share in curve.fractions)
    for edges, kept, note, value in zip(
        absolute.sizes, absolute.kept, absolute.notes, absolute.values, strict=True
    ):
        circuit = select(scores, size=edges, strategy="top-n")
        assert kept == len(circuit)
        assert note == nothing_left(select(scores, size=edges, strategy="top-n", prune=False))
        assert (note is None) == bool(kept) and (kept or value.value == 0 == value.high)
    assert "an empty circuit: no edge was selected" in absolute.notes
    assert random.kept[-1] == n and set(random.notes) == {None}
    assert curve.curves["signed"].at(0.05) == curve.curves["signed"].values[5]
    assert set(curve.to_dict()["curves"]["signed"]["at"]) == {"0.01", "0.02", "0.05"}
    with pytest.raises(circuits.CircuitsError, match=r"f was not measured at 0\.3; only at 0\.001"):
        absolute.at(0.3)


def test_other_orders_get_curves_of_their_own(scored):
    model, scores, pairs = scored
    order = edge_order(scores, "greedy")
    found = faithfulness(model, scores, pairs, others={"mine": order}, controls=0)
    assert set(found.curves) == {"signed", "absolute", "mine"}
    alone = faithfulness(model, scores, pairs, strategy="greedy").curves["absolute"]
    assert found.curves["mine"].values == alone.values
    for wrong in ([0.5, 0.1], [0.0, 0.5], [0.5, 1.5], [0.5, 0.5]):
        with pytest.raises(circuits.CircuitsError, match="rising shares above 0, at most 1"):
            faithfulness(model, scores, pairs, fractions=wrong)


def test_circuits_that_can_do_nothing_are_named(scored):
    model, scores, pairs = scored
    dead = Circuit.of(scores.layout, ["input->m0"])
    empty = Circuit.empty(scores.layout)
    for circuit, words in ((dead, "without a path from input"), (empty, "no edge was selected")):
        found = evaluate(model, scores, circuit, pairs, questions=EVERY)
        json.dumps(found, allow_nan=False)
        assert words in found["circuit"]["nothing_left"]
        f = found["circuit"]["faithfulness"]
        assert f["value"] == pytest.approx(0, abs=1e-6) == f["low"] == f["high"]
        assert found["minimality"] is found["completeness"] is None


def test_under_means_a_circuit_without_a_path_does_something(scored):
    model, scores, pairs = scored
    circuit = Circuit.of(scores.layout, ["input->m0", "m1->logits"])
    found = evaluate(model, scores, circuit, pairs, questions=EVERY, ablation="mean")
    assert found["circuit"]["nothing_left"] is None
    assert abs(found["circuit"]["faithfulness"]["value"]) > 1e-3
    assert set(found["minimality"]["falls"]) == {"input->m0", "m1->logits"}
    assert found["completeness"]["mean"]["n"] == 2


class Blind(PairSet):
    """Pairs of which the metric sees nothing: it reads before the prompts differ."""

    def batch(self, index):
        batch = super().batch(index)
        object.__setattr__(batch, "position", torch.zeros_like(batch.position))
        return batch


def test_equal_metrics_are_a_named_result(scored):
    model, scores, pairs = scored
    blind = Blind(pairs.pairs, metric="logit-difference")
    found = evaluate(model, scores, select(scores, size=30), blind, questions=EVERY)
    json.dumps(found, allow_nan=False)
    assert "faithfulness is not defined: logit-difference is" in found["faithfulness"]["undefined"]
    assert found["robustness"] == {} and found["circuit"]["faithfulness"] is None
    assert found["stability"] is not None, "it needs no metric"
    held = evaluate(model, scores, select(scores, size=30), pairs, conditions={"blind": blind})
    assert "not defined" in held["robustness"]["blind"]["undefined"]
    assert held["robustness"]["blind"]["circuit"] is None


def test_resamples_without_a_denominator_are_left_out_or_refused():
    """One example of many carries the whole difference: some resamples miss it."""

    def table(n, carrying):
        values = torch.zeros(n, 3, dtype=torch.float64)
        values[:carrying] = torch.tensor([2.0, 0.0, 1.0])
        return values

    (few,) = estimates(table(20, 4), shares)
    assert few.value == 0.5 == few.low == few.high
    with pytest.raises(UndefinedMetricError, match=r"no interval: .* equal in \d+ of 1000 resampl"):
        estimates(table(20, 1), shares)


def test_a_mix_is_chosen_by_its_curve(scored):
    model, scores, pairs = scored
    tried = (0.0, 0.5, 1.0)
    for aim in ("cmd", "cpr"):
        mix = tune_positive_ratio(model, scores, pairs, aim=aim, shares=tried)
        areas = {}
        for share in tried:
            order = edge_order(scores, "widest-path", "mixed", positive_ratio=share)
            curve = faithfulness(model, scores, pairs, others={"m": order}).curves["m"]
            areas[share] = curve.distance.value if aim == "cmd" else -curve.area.value
            assert abs(areas[share]) == pytest.approx(abs(mix.tried[share].value))
        assert areas[mix.positive_ratio] == min(areas.values()) < max(areas.values())
        json.dumps(mix.to_dict(), allow_nan=False)
    scored_on = {"data": {"fingerprint": pairs.fingerprint}}
    with pytest.raises(circuits.CircuitsError, match="choose the mix on others"):
        tune_positive_ratio(model, EdgeScores(scores.matrix, scores.layout, "x", scored_on), pairs)
    with pytest.raises(circuits.CircuitsError, match="unknown aim 'best'; known: cmd, cpr"):
        tune_positive_ratio(model, scores, pairs, aim="best")


def test_what_is_left_out_may_be_replaced_by_means_or_zero(scored):
    model, scores, pairs = scored
    circuit = select(scores, size=30)
    values = {}
    for ablation in ("corrupted", "mean", "zero"):
        found = evaluate(*(model, scores, circuit, pairs), questions=EVERY, ablation=ablation)
        json.dumps(found, allow_nan=False)
        own = measure(model, pairs, [circuit], ablation=ablation)
        expected = float(shares(own.columns.mean(dim=0))[0])
        assert found["circuit"]["faithfulness"]["value"] == pytest.approx(expected, abs=1e-6)
        assert found["minimality"]["faithfulness"]["value"] != pytest.approx(1.0)
        values[ablation] = (expected, found["completeness"]["mean"]["value"])
    assert len({round(value, 4) for both in values.values() for value in both}) == 6
    with pytest.raises(circuits.CircuitsError, match="unknown ablation 'nothing'"):
        evaluate(model, scores, circuit, pairs, ablation="nothing")
