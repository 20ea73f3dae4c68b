"""Figures of circuits of nodes and neurons, against the oracle that swaps units one by one."""

from dataclasses import replace

import pytest
import torch
from oracles.bootstrap import bca
from oracles.unit_swaps import UnitSwaps

import circuits
from circuits.attribution import attribute_nodes
from circuits.evaluation import (
    CompletenessConfig,
    CurveConfig,
    EvalConfig,
    MinimalityConfig,
    RankingTrials,
    RatioConfig,
    RivalsConfig,
    StabilityConfig,
    avoiding,
    choose_ranking,
    completeness,
    degenerate_reason,
    evaluate,
    faithfulness,
    measure,
    minimality,
    stability,
    tune_positive_ratio,
)
from circuits.evaluation.knockout import components_inside, components_outside
from circuits.evaluation.measure import faithfulness_from_means
from circuits.graph import Circuit, NodeCircuit, Units, node_order, select_nodes
from circuits.metrics import METRICS
from circuits.statistics import resample_weights

EVERY = EvalConfig(
    minimality=MinimalityConfig(n_controls=4, n_pairs=3),
    completeness=CompletenessConfig(n_sets=2, n_steps=2, n_candidates=3, n_pairs=4),
    stability=StabilityConfig(6),
)


@pytest.fixture(
    scope="module", params=[pytest.param("gpt2", marks=pytest.mark.exhaustive), "llama"]
)
def model(request, hooked):
    return hooked(request.param)


@pytest.fixture(scope="module", params=["node", "neuron"])
def scored(request, model, random_pairs):
    scored_on = random_pairs(n=6, seed=1)
    scores = attribute_nodes(model, scored_on, level=request.param, per_example=True)
    return model, scores, random_pairs(n=5, seed=2)


def oracle_metrics(model, pairs, circuit):
    """Clean, corrupted, circuit: the metric of each example by the slow oracle, on whole logits."""
    layout = model.layout
    swaps = UnitSwaps(model.hf, layout.n_heads, layout.n_kv_heads, model.view.d_head)
    kept = circuit.mask.split(list(circuit.units.widths))
    rows = []
    for place in range(len(pairs)):
        batch = pairs.batch([place])
        corrupted, seen = swaps.run({"input_ids": batch.corrupted})
        clean = swaps.run({"input_ids": batch.clean})[0]
        left = swaps.run({"input_ids": batch.clean}, kept, seen)[0]
        reads = (logits[batch.example_index, batch.position] for logits in (clean, corrupted, left))
        rows.append([float(METRICS["logit-difference"](one, batch)[0]) for one in reads])
    return rows


def share(rows):
    """f of means over examples."""
    clean, corrupted, left = (sum(column) for column in zip(*rows, strict=True))
    return (left - corrupted) / (clean - corrupted)


def apart(model, pairs, n):
    """The pairs whose clean and corrupted metric are furthest apart, so that no resample divides
    by next to nothing.
    """
    columns = measure(model, pairs, [NodeCircuit.inputs_only(Units.of_nodes(model.layout))]).columns
    order = (columns[:, 0] - columns[:, 1]).argsort(descending=True)[:n]
    return replace(pairs, pairs=tuple(pairs[index] for index in order.tolist()))


def oracle_share(model, pairs, circuit):
    """f by the slow oracle."""
    return share(oracle_metrics(model, pairs, circuit))


def test_the_curve_equals_the_oracle(scored):
    model, scores, pairs = scored
    points = CurveConfig(fractions=(0.01, 0.1, 0.5, 1.0), n_random=2)
    curve = faithfulness(model, scores, pairs, curve=points)
    total = len(scores.values) - 1
    assert (curve.level, curve.strategy) == (scores.units.level, "top-n")
    absolute, random = curve.curves["absolute"], curve.curves["random"]
    assert absolute.sizes == tuple(int(share * total) for share in curve.fractions)
    assert absolute.kept == tuple(map(float, absolute.sizes))
    for ranking in ("absolute", "signed"):
        line = curve.curves[ranking]
        for size, value, reason in zip(
            line.sizes, line.values, line.degenerate_reasons, strict=True
        ):
            circuit = select_nodes(scores, size, ranking=ranking)
            assert value.value == pytest.approx(oracle_share(model, pairs, circuit), abs=1e-3)
            assert value.low <= value.value <= value.high and value.n == 5
            assert reason == degenerate_reason(circuit) and (reason is None) == (size > 0)
        assert line.values[-1].value == pytest.approx(1, abs=1e-4)
    assert random.values[-1].value == pytest.approx(1, abs=1e-4)
    assert abs(random.values[2].value - absolute.values[2].value) > 1e-3
    assert curve.cmd == absolute.area_abs_gap
    assert curve.cpr == curve.curves["signed"].area_f and random.sizes == absolute.sizes


def test_intervals_equal_the_oracle(scored, random_pairs):
    """Of f at a size, of f of the circuit and of its trial, by loops over resamples."""
    model, scores, _ = scored
    pairs, others = (apart(model, random_pairs(n=30, seed=seed), 9) for seed in (3, 4))
    size = len(scores.values) // 3
    how = {"ranking": "mixed", "positive_ratio": 0.6}
    circuit = select_nodes(scores, size, **how)
    mixed = CurveConfig(None, (0.2, size / (len(scores.values) - 1) + 1e-9), 0,
                        {"mixed": node_order(scores, **how)})  # fmt: skip
    counts = (9 * resample_weights(9, 1000, seed=0)).round().long().tolist()

    def found(judged):
        return bca(oracle_metrics(model, judged, circuit), share, counts)

    expected = found(pairs)
    assert expected[2] - expected[1] > 1e-2
    evaluated = evaluate(model, scores, circuit, pairs).circuit.faithfulness
    on_curve = faithfulness(model, scores, pairs, curve=mixed).curves["mixed"].values[1]
    trials = RankingTrials(size, positive_ratios=(0.6,))
    (trial,) = (
        one
        for one in choose_ranking(model, scores, others, trials).trials
        if one.ranking == "mixed"
    )
    for ours, theirs in ((evaluated, expected), (on_curve, expected), (trial.f, found(others))):
        assert (ours.value, ours.low, ours.high) == pytest.approx(theirs, abs=2e-3)


@pytest.mark.parametrize("ranking", ["signed", "mixed"])
def test_rivals_are_the_rest_of_the_circuits_own_order(scored, ranking):
    _, scores, _ = scored
    size = len(scores.values) // 5
    how = {"ranking": ranking, "positive_ratio": 0.5 if ranking == "mixed" else None}
    circuit = select_nodes(scores, size, **how)
    inside = circuit.mask & ~scores.units.roots
    rest = replace(scores, values=scores.values.masked_fill(inside, 0.0))
    order = [unit for unit in node_order(rest, **how).tolist() if not inside[unit]]
    for multiple, other in avoiding(scores, circuit, RivalsConfig((1, 2))).items():
        assert set((other.mask & ~scores.units.roots).nonzero().flatten().tolist()) == set(
            order[: multiple * size]
        )


def test_a_ratio_of_nodes_is_chosen_by_its_curve(scored):
    model, scores, pairs = scored
    fractions, ratios = (0.2, 0.35, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0)
    config = RatioConfig("cpr", ratios, fractions=fractions)
    search = tune_positive_ratio(model, scores, pairs, config=config)
    half = {"half": node_order(scores, "mixed", positive_ratio=0.5)}
    curves = faithfulness(model, scores, pairs, curve=CurveConfig(None, fractions, 0, half)).curves
    areas = [curves[name].area_f.value for name in ("absolute", "half", "signed")]
    assert [search.areas[ratio].value for ratio in ratios] == pytest.approx(areas)
    assert len(set(areas)) > 1
    assert search.positive_ratio == max(ratios, key=lambda ratio: search.areas[ratio].value)


def test_an_order_of_ones_own_gets_a_curve(scored):
    model, scores, pairs = scored
    mine = CurveConfig(None, (0.2, 1.0), 0, {"mine": node_order(scores)})
    found = faithfulness(model, scores, pairs, curve=mine)
    assert found.curves["mine"].values == found.curves["absolute"].values
    with pytest.raises(circuits.CircuitsError, match="strategy 'widest-path' orders edges"):
        faithfulness(model, scores, pairs, curve=CurveConfig("widest-path"))


def test_what_is_knocked_out_of_a_node_circuit(scored):
    model, scores, _ = scored
    circuit = select_nodes(scores, len(scores.values) // 4)
    inside = components_inside(circuit, "node")
    outside = components_outside(circuit, "node", 99, seed=0)
    nodes = set(model.layout.sources) - {"input"}
    assert set(inside) == set(circuit.nodes) - {"input", "logits"}
    assert set(inside) | set(outside) == nodes and not set(inside) & set(outside)
    for name, mask in (inside | outside).items():
        assert torch.equal(mask, NodeCircuit.of(circuit.units, [name]).mask)
    singles = components_inside(circuit, "neuron")
    assert set(singles) == set(circuit.names) - {"input"}
    assert all(int(mask.sum()) == 1 for mask in singles.values())
    assert not set(components_outside(circuit, "neuron", 5, seed=0)) & set(singles)
    with pytest.raises(
        circuits.CircuitsError, match="no edge can be knocked out of a circuit of n"
    ):
        components_inside(circuit, "edge")
    with pytest.raises(
        circuits.CircuitsError, match="no neuron can be knocked out of a circuit of edges"
    ):
        components_inside(Circuit.full(model.layout), "neuron")


def test_minimality_equals_the_oracle(scored):
    model, scores, pairs = scored
    circuit = select_nodes(scores, len(scores.values) // 3)
    found = minimality(model, circuit, pairs, config=MinimalityConfig(n_controls=2))
    whole = oracle_share(model, pairs, circuit)
    assert found.level == "node" and found.faithfulness.value == pytest.approx(whole, abs=1e-3)
    assert max(abs(drop.value) for drop in found.drops.values()) > 0.05
    for name, mask in list(components_inside(circuit, "node").items())[:4]:
        left = oracle_share(model, pairs, NodeCircuit(circuit.units, circuit.mask & ~mask))
        assert found.drops[name].value == pytest.approx(whole - left, abs=3e-3)
    brought = components_outside(circuit, "node", 2, seed=0)
    assert set(found.control) == set(brought)
    for name, mask in brought.items():
        more = oracle_share(model, pairs, NodeCircuit(circuit.units, circuit.mask | mask))
        assert found.control[name].value == pytest.approx(more - whole, abs=3e-3)


def test_completeness_equals_the_oracle(scored):
    model, scores, pairs = scored
    circuit = select_nodes(scores, len(scores.values) // 2)
    few = CompletenessConfig(n_sets=2, n_steps=1, n_candidates=2)
    found = completeness(model, circuit, pairs, config=few)
    nodes = components_inside(circuit, "node")
    for one in found.random:
        out = torch.stack([nodes[name] for name in one.components]).any(dim=0)
        variants = [NodeCircuit(circuit.units, mask & ~out) for mask in (circuit.mask, out | True)]
        kept, whole = (oracle_share(model, pairs[::2], variant) for variant in variants)
        assert one.circuit.value == pytest.approx(kept, abs=2e-3)
        assert one.model.value == pytest.approx(whole, abs=2e-3)
    assert found.incompleteness.value > 1e-3


def test_stability_counts_the_resamples(scored):
    """Against circuits selected one by one from means taken by hand."""
    _, scores, _ = scored
    found = stability(scores, size=6, ranking="signed", n_resamples=25, seed=3)
    counts = {}
    for weights in resample_weights(6, 25, seed=3):
        mean = torch.einsum("n,nu->u", weights.float(), scores.per_example)
        order = mean[1:].argsort(descending=True)[:6] + 1
        for place in order.tolist():
            name = scores.units.name(place)
            counts[name] = counts.get(name, 0) + 1
    assert {name: round(25 * share) for name, share in found.frequencies.items()} == counts
    assert found.level == scores.units.level and len(found.circuit) == 6
    assert set(found.circuit) | {"input"} == set(select_nodes(scores, 6, ranking="signed").names)
    assert found.chance == pytest.approx(6 / (len(scores.values) - 1))
    assert 1 > found.resample_jaccard.value > found.control.value


def test_everything_is_evaluated(scored, random_pairs):
    model, scores, pairs = scored
    level = scores.units.level
    circuit = select_nodes(scores, len(scores.values) // 4)
    found = evaluate(
        *(model, scores, circuit, pairs),
        conditions={"longer": random_pairs(n=4, length=14)},
        config=EVERY,
    )
    assert found.circuit.size == len(circuit) and found.circuit.level == level
    assert found.circuit.n_nodes == len(circuit.nodes)
    assert found.faithfulness == faithfulness(model, scores, pairs)
    assert set(found.robustness) == {"evaluate", "longer"}
    control = found.robustness["evaluate"].control
    assert control is not None and control != found.circuit.faithfulness
    assert found.minimality.level == "node" == found.completeness.level
    assert found.stability.level == level
    none = evaluate(model, scores, select_nodes(scores, 0), pairs, config=EVERY)
    assert none.circuit.degenerate_reason == f"an empty circuit: no {level} was selected"
    assert none.minimality is none.completeness is None


@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_what_is_left_out_may_be_replaced_otherwise(scored, ablation):
    model, scores, pairs = scored
    circuit = select_nodes(scores, len(scores.values) // 2)
    figures = [
        float(
            faithfulness_from_means(
                measure(model, pairs, [circuit], ablation=how).columns.mean(dim=0)
            )[0]
        )
        for how in ("corrupted", ablation)
    ]
    assert abs(figures[0] - figures[1]) > 1e-3
    found = evaluate(model, scores, circuit, pairs, config=EvalConfig(ablation=ablation))
    assert found.circuit.faithfulness.value == pytest.approx(figures[1], abs=1e-6)


def test_t5_and_bart_have_curves_too(hooked, random_pairs):
    for name in ("t5", "bart"):
        model = hooked(name)
        scores = attribute_nodes(model, random_pairs(n=3, seed=1, answers=2), level="neuron")
        curve = faithfulness(model, scores, random_pairs(n=3, seed=2, answers=2))
        assert curve.values[-1].value == pytest.approx(1, abs=1e-4)
        assert len({round(value.value, 4) for value in curve.values}) > 4
