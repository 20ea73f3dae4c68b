"""All that is said of a circuit; and what cannot be measured is named, never NaN."""

import json
import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

import circuits
from circuits.errors import UndefinedMetricError
from circuits.evaluation import (
    CheckpointEvaluation,
    CompletenessConfig,
    CurveConfig,
    EvalConfig,
    Evaluation,
    MinimalityConfig,
    PairsUsed,
    RatioConfig,
    StabilityConfig,
    Undefined,
    degenerate_reason,
    evaluate,
    faithfulness,
    measure,
    task_performance,
    tune_positive_ratio,
)
from circuits.evaluation.measure import faithfulness_from_means
from circuits.graph import Circuit, EdgeScores, Provenance, edge_order, select
from circuits.provenance import describe_pairs
from circuits.statistics.estimate import estimates
from tasks.pairs import PairSet

EVERY = EvalConfig(
    minimality=MinimalityConfig(n_controls=4, n_pairs=3),
    completeness=CompletenessConfig(n_sets=2, n_steps=2, n_candidates=3, n_pairs=4),
    stability=StabilityConfig(6),
)


@pytest.fixture(
    scope="module", params=[pytest.param("gpt2", marks=pytest.mark.exhaustive), "llama"]
)
def scored(request, hooked, random_pairs):
    model = hooked(request.param)
    scores = circuits.attribute(model, random_pairs(n=6, seed=1), per_example=True)
    return model, scores, random_pairs(n=5, seed=2)


def test_everything_is_evaluated(scored, random_pairs):
    model, scores, pairs = scored
    circuit = select(scores, size=30)
    found = evaluate(
        *(model, scores, circuit, pairs),
        conditions={"longer": random_pairs(n=4, length=14)},
        config=EVERY,
    )
    assert set(found.robustness) == {"evaluate", "longer"}
    assert found.circuit.faithfulness == found.robustness["evaluate"].circuit
    assert found.circuit.size == len(circuit) and found.circuit.degenerate_reason is None
    assert found.circuit.n_nodes == len(circuit.nodes)
    assert len(found.minimality.drops) == len(circuit)
    assert found.minimality.faithfulness.n == 3
    assert found.completeness.n_search_examples == 2 == found.completeness.incompleteness.n
    assert found.stability.n_resamples == 6
    assert set(found.stability.circuit) == set(circuit.edges)
    assert found.faithfulness.strategy == "widest-path" and found.curves is found.faithfulness
    whole = select(scores, size=30, strategy="top-n", prune=False)
    resampled = evaluate(
        model, scores, whole, pairs, config=EvalConfig(stability=StabilityConfig(2))
    ).stability
    assert set(resampled.circuit) == set(whole.edges) != set(whole.pruned().edges)
    again = evaluate(*(model, scores, circuit, pairs), config=EVERY)
    assert again.completeness == found.completeness, "the same seed, the same figures"
    bare = evaluate(model, EdgeScores(scores.matrix, scores.layout, "x"), circuit, pairs)
    assert bare.stability is bare.minimality is bare.completeness is None


def test_the_file_gives_the_same_object_back(scored, tmp_path):
    """Every part, those without a figure too, and checkpoints in the order of the run."""
    model, scores, pairs = scored
    found = evaluate(*(model, scores, select(scores, size=30), pairs), config=EVERY)
    performance = task_performance(model, pairs)
    parts = dict(found)
    vanished = Undefined(undefined_reason="equal metrics")
    with pytest.raises(UndefinedMetricError, match="equal metrics"):
        vanished.plot()
    checkpoints = {
        "step-9": CheckpointEvaluation(**parts, performance=performance),
        "step-10": CheckpointEvaluation(**{**parts, "minimality": vanished}),
    }
    one = pairs[:1]
    lone = evaluate(*(model, scores, select(scores, size=30), one))
    checkpoints["base"] = CheckpointEvaluation(**dict(lone))
    made = Evaluation(
        order=("base", "step-9", "step-10"),
        checkpoints=checkpoints,
        pairs={"evaluate": PairsUsed.of(pairs)},
    )
    file = made.save(tmp_path / "evaluation.json")
    back = Evaluation.load(file)
    assert list(back.checkpoints) == ["base", "step-9", "step-10"] and back.last.minimality
    assert back.checkpoints["step-9"] == checkpoints["step-9"]
    assert back.last == checkpoints["step-10"] and back.pairs == made.pairs
    assert math.isnan(back.checkpoints["base"].circuit.faithfulness.low), "of one pair"
    assert back.save(tmp_path / "again.json").read_bytes() == file.read_bytes()
    kinds = json.loads(file.read_text())
    assert (kinds["kind"], kinds["schema_version"]) == ("evaluation", 2)
    with pytest.raises(ValidationError, match="'step-1' is not in the order"):
        Evaluation(order=("base",), checkpoints={"step-1": checkpoints["base"]})


def test_the_curve_follows_the_circuits_strategy(scored):
    model, scores, pairs = scored
    found = evaluate(model, scores, select(scores, size=30, strategy="top-n"), pairs)
    curve = faithfulness(model, scores, pairs, curve=CurveConfig("top-n"))
    assert found.faithfulness == curve
    paths = faithfulness(model, scores, pairs)
    assert paths.values != curve.values and paths.curves["random"] == curve.curves["random"]


def test_points_of_a_curve(scored):
    """Sizes as the benchmark's code takes them, what pruning leaves, and f early on."""
    model, scores, pairs = scored
    curve = faithfulness(model, scores, pairs, curve=CurveConfig("top-n", n_random=2))
    n = scores.layout.n_edges
    absolute, random = curve.curves["absolute"], curve.curves["random"]
    assert absolute.sizes == tuple(int(fraction * n) for fraction in curve.fractions)
    for size, kept, reason, value in zip(
        absolute.sizes, absolute.kept, absolute.degenerate_reasons, absolute.values, strict=True
    ):
        circuit = select(scores, size=size, strategy="top-n")
        assert kept == len(circuit)
        unpruned = select(scores, size=size, strategy="top-n", prune=False)
        assert reason == degenerate_reason(unpruned)
        assert (reason is None) == bool(kept) and (kept or value.value == 0 == value.high)
    assert "an empty circuit: no edge was selected" in absolute.degenerate_reasons
    assert random.kept[-1] == n and set(random.degenerate_reasons) == {None}
    assert curve.curves["signed"].at(0.05) == curve.curves["signed"].values[5]
    with pytest.raises(circuits.CircuitsError, match=r"f was not measured at 0\.3; only at 0\.001"):
        absolute.at(0.3)


def test_extra_orders_get_curves_of_their_own(scored):
    model, scores, pairs = scored
    mine = CurveConfig(n_random=0, extra_orders={"mine": edge_order(scores, "greedy")})
    found = faithfulness(model, scores, pairs, curve=mine)
    assert set(found.curves) == {"signed", "absolute", "mine"}
    alone = faithfulness(model, scores, pairs, curve=CurveConfig("greedy")).curves["absolute"]
    assert found.curves["mine"].values == alone.values


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        *(
            ({"fractions": fractions}, "fractions that rise, above 0, at most 1")
            for fractions in ((0.5, 0.1), (0.0, 0.5), (0.5, 1.5), (0.5, 0.5), ())
        ),
        ({"n_random": -1}, "n_random -1: it must be at least 0"),
        ({"strategy": "luck"}, "unknown strategy 'luck'; known: top-n, widest-path"),
    ],
)
def test_curves_that_cannot_be_are_refused(wrong, message):
    made = object.__new__(CurveConfig)  # past the check of types, which users do not run
    with pytest.raises(circuits.CircuitsError, match=message):
        vars(made).update({**vars(CurveConfig()), **wrong})
        made.__post_init__()


def test_circuits_that_can_do_nothing_are_named(scored):
    model, scores, pairs = scored
    dead = Circuit.of(scores.layout, ["input->m0"])
    empty = Circuit.empty(scores.layout)
    for circuit, words in ((dead, "without a path from input"), (empty, "no edge was selected")):
        found = evaluate(model, scores, circuit, pairs, config=EVERY)
        assert words in found.circuit.degenerate_reason
        f = found.circuit.faithfulness
        assert f.value == pytest.approx(0, abs=1e-6) == f.low == f.high
        assert found.minimality is found.completeness is None


def test_under_means_a_circuit_without_a_path_does_something(scored):
    model, scores, pairs = scored
    circuit = Circuit.of(scores.layout, ["input->m0", "m1->logits"])
    found = evaluate(model, scores, circuit, pairs, config=replace(EVERY, ablation="mean"))
    assert found.circuit.degenerate_reason is None and found.circuit.ablation == "mean"
    assert abs(found.circuit.faithfulness.value) > 1e-3
    assert set(found.minimality.drops) == {"input->m0", "m1->logits"}
    assert found.completeness.incompleteness.n == 2


class Blind(PairSet):
    """Pairs of which the metric sees nothing: it reads before the prompts differ."""

    def batch(self, index):
        batch = super().batch(index)
        object.__setattr__(batch, "position", torch.zeros_like(batch.position))
        return batch


def test_equal_metrics_are_a_named_result(scored):
    model, scores, pairs = scored
    blind = Blind(pairs.pairs, metric="logit-difference")
    found = evaluate(model, scores, select(scores, size=30), blind, config=EVERY)
    reason = found.faithfulness.undefined_reason
    assert "faithfulness is not defined: logit-difference is" in reason
    assert found.robustness == {} and found.circuit.faithfulness is None is found.curves
    assert found.stability is not None, "it needs no metric"
    held = evaluate(model, scores, select(scores, size=30), pairs, conditions={"blind": blind})
    assert "not defined" in held.robustness["blind"].undefined_reason
    assert held.robustness["blind"].circuit is None


def test_resamples_without_a_denominator_are_left_out_or_refused():
    """One example of many carries the whole difference: some resamples miss it."""

    def table(n, carrying):
        values = torch.zeros(n, 3, dtype=torch.float64)
        values[:carrying] = torch.tensor([2.0, 0.0, 1.0])
        return values

    (few,) = estimates(table(20, 4), faithfulness_from_means)
    assert few.value == 0.5 == few.low == few.high
    with pytest.raises(UndefinedMetricError, match=r"no interval: .* equal in \d+ of 1000 resampl"):
        estimates(table(20, 1), faithfulness_from_means)


def test_a_ratio_is_chosen_by_its_curve(scored):
    model, scores, pairs = scored
    tried = (0.0, 0.5, 1.0)
    for objective in ("cmd", "cpr"):
        config = RatioConfig(objective, tried)
        search = tune_positive_ratio(model, scores, pairs, config=config)
        areas = {}
        for ratio in tried:
            order = edge_order(scores, "widest-path", "mixed", positive_ratio=ratio, join=True)
            mixed = CurveConfig(extra_orders={"m": order})
            curve = faithfulness(model, scores, pairs, curve=mixed).curves["m"]
            least = objective == "cmd"
            areas[ratio] = curve.area_abs_gap.value if least else -curve.area_f.value
            assert abs(areas[ratio]) == pytest.approx(abs(search.areas[ratio].value))
        assert areas[search.positive_ratio] == min(areas.values()) < max(areas.values())
    scored_on = Provenance(data=describe_pairs(pairs))
    with pytest.raises(circuits.CircuitsError, match="choose the ratio on others"):
        tune_positive_ratio(model, EdgeScores(scores.matrix, scores.layout, "x", scored_on), pairs)
    with pytest.raises(circuits.CircuitsError, match="no ratios to try"):
        RatioConfig(positive_ratios=())


@pytest.mark.usefixtures("untyped")
def test_what_is_left_out_may_be_ablated_by_means_or_zero(scored):
    model, scores, pairs = scored
    circuit = select(scores, size=30)
    values = {}
    for ablation in ("corrupted", "mean", "zero"):
        config = replace(EVERY, ablation=ablation)
        found = evaluate(*(model, scores, circuit, pairs), config=config)
        own = measure(model, pairs, [circuit], ablation=ablation)
        expected = float(faithfulness_from_means(own.columns.mean(dim=0))[0])
        assert found.circuit.faithfulness.value == pytest.approx(expected, abs=1e-6)
        assert found.minimality.faithfulness.value != pytest.approx(1.0)
        values[ablation] = (expected, found.completeness.incompleteness.value)
    assert len({round(value, 4) for both in values.values() for value in both}) == 6
    with pytest.raises(circuits.CircuitsError, match="unknown ablation 'nothing'"):
        evaluate(model, scores, circuit, pairs, config=EvalConfig(ablation="nothing"))
