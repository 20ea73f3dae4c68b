"""On models whose circuit is known, everything comes out as the construction says."""

import pytest
import torch
from known.build import KNOWN

import circuits
from circuits.evaluation import (
    CompletenessConfig,
    CurveConfig,
    MinimalityConfig,
    completeness,
    faithfulness,
    measure,
    minimality,
    robustness,
)
from circuits.evaluation.measure import faithfulness_from_means
from circuits.graph import Circuit, NodeCircuit, select_nodes

THIRD = pytest.approx(1 / 3, abs=0.02)


@pytest.fixture(scope="module", params=list(KNOWN))
def known(request):
    """Built once; scored on one draw, judged on another."""
    scored, judged = KNOWN[request.param](24, 0), KNOWN[request.param](24, 1)
    scores = circuits.attribute(scored.model, scored.pairs, "eap-ig", steps=5, per_example=True)
    return request.param, scored.model, scores, judged.pairs, scored.edges


def auroc(scores, edges):
    """The chance that an edge of the circuit scores higher than one outside it."""
    layout = scores.layout
    names = [layout.edge_name(*place) for place in layout.mask.nonzero().tolist()]
    inside = [abs(scores[name]) for name in names if name in edges]
    outside = [abs(scores[name]) for name in names if name not in edges]
    assert len(inside) == len(edges) and len(outside) > 70
    wins = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    return wins / len(inside) / len(outside)


def test_the_models_do_their_task(known):
    _, model, scores, pairs, _ = known
    for number in range(len(pairs)):
        batch = pairs.batch([number])
        logits = model.logits(batch.clean, batch)
        assert int(logits.argmax()) == pairs[number].answer[0][0]
        assert int(model.logits(batch.corrupted, batch).argmax()) == pairs[number].wrong[0][0]
    assert scores.provenance.metric_clean > 7 and scores.provenance.metric_corrupted < -7


def test_what_lies_beside_the_circuit_is_active(known):
    """Else the edges to be told apart would be told apart by a source that never changes."""
    _, _, scores, _, edges = known
    redundant_fraction = [
        name for name, _ in scores.top(20) if name not in edges and abs(scores[name]) > 1e-3
    ]
    assert len(redundant_fraction) >= 5


def test_edges_are_found(known):
    _, _, scores, _, edges = known
    assert auroc(scores, edges) > 0.99
    assert all(scores[edge] > 1 for edge in edges)
    for strategy in ("widest-path", "top-n", "greedy", "stable"):
        circuit = circuits.select(scores, size=len(edges), strategy=strategy)
        assert set(circuit.edges) == edges, strategy


def test_the_curve_steps_up_at_the_circuits_size(known):
    _, model, scores, pairs, edges = known
    n = scores.layout.n_edges
    sizes = (1, len(edges) - 1, len(edges), 2 * len(edges))
    points = CurveConfig(fractions=tuple((size + 0.5) / n for size in sizes))
    curve = faithfulness(model, scores, pairs, curve=points)
    below, short, exact, more = curve.values
    assert below.value == 0 and short.value < 0.8
    assert exact.value == pytest.approx(1, abs=0.01) and more.value == pytest.approx(1, abs=0.01)
    assert curve.curves["absolute"].sizes == sizes
    reasons = curve.curves["absolute"].degenerate_reasons
    assert reasons[0] == "a circuit without a path from input to logits" and reasons[2] is None


def test_every_edge_is_worth_what_it_was_built_for(known):
    name, model, scores, pairs, edges = known
    found = minimality(model, Circuit.of(scores.layout, edges), pairs)
    assert found.redundant_fraction == 0 and found.control_redundant_fraction == 1
    assert found.faithfulness.value == pytest.approx(1, abs=0.01)
    drops = {edge: fall.value for edge, fall in found.drops.items()}
    assert set(drops) == edges
    if name == "induction":  # q, k and v each matter in a third of the pairs, the output in all
        assert drops.pop("a1.h1->logits") == pytest.approx(1, abs=0.01)
        assert all(fall == THIRD for fall in drops.values())
    else:
        assert drops.pop("a1.h2->logits") == pytest.approx(1, abs=0.01)
        assert drops.pop("input->a1.h2<q>") == pytest.approx(1 / 2, abs=0.02)
        assert all(fall > 0.2 for fall in drops.values())


def test_nodes_are_worth_what_they_were_built_for(known):
    name, model, scores, pairs, edges = known
    nodes = MinimalityConfig("node")
    found = minimality(model, Circuit.of(scores.layout, edges), pairs, config=nodes)
    assert set(found.drops) == ({"a0.h0", "a1.h1"} if name == "induction" else {"m0", "a1.h2"})
    assert found.redundant_fraction == 0 and found.control_redundant_fraction == 1
    assert len(found.control) == len(scores.layout.sources) - 1 - len(found.drops)


def test_the_nodes_alone_do_the_task(known):
    """A circuit of nodes keeps all that they read, so the two of the construction are enough."""
    name, model, scores, pairs, _ = known
    built = {"a0.h0", "a1.h1"} if name == "induction" else {"m0", "a1.h2"}
    kept = NodeCircuit.of(scores.layout, {"input", *built})
    lacking = [NodeCircuit.of(scores.layout, {"input", one}) for one in sorted(built)]
    others = NodeCircuit.of(scores.layout, set(scores.layout.sources) - built)
    f = faithfulness_from_means(
        measure(model, pairs, [kept, *lacking, others]).columns.mean(dim=0)
    ).tolist()
    assert f[0] == pytest.approx(1, abs=0.01) and max(f[1:]) < 0.8
    found = circuits.attribution.attribute_nodes(model, pairs, "eap-ig", steps=5)
    assert set(select_nodes(found, 2).names) == {"input", *built}


@pytest.mark.parametrize("level", ["edge", "node"])
def test_the_circuit_is_complete_and_half_of_it_is_not(known, level):
    _, model, scores, pairs, edges = known
    four = CompletenessConfig(level, n_sets=4)
    whole = completeness(model, Circuit.of(scores.layout, edges), pairs, config=four)
    assert whole.incompleteness.value < 0.02 and whole.greedy.incompleteness.value < 0.02
    assert whole.control.value > 0.05
    if level == "edge":
        short = Circuit.of(scores.layout, [edge for edge in edges if "<q>" not in edge])
        eight = CompletenessConfig(level, n_sets=8)
        lacking = completeness(model, short, pairs, config=eight)
        assert lacking.incompleteness.value > 0.05


def test_a_circuit_holds_on_other_pairs_and_a_random_one_does_not(known):
    name, model, scores, pairs, edges = known
    other = KNOWN[name](10, 7).pairs
    found = robustness(model, Circuit.of(scores.layout, edges), {"same": pairs, "other": other})
    for condition in found.values():
        assert condition.circuit.value == pytest.approx(1, abs=0.02)
        assert abs(condition.control.value) < 0.1


def test_resamples_give_the_same_circuit(known):
    _, _, scores, _, edges = known
    found = circuits.evaluation.stability(scores, size=len(edges), n_resamples=30)
    assert found.resample_jaccard.value == 1 == found.split_half_jaccard.value
    assert set(found.circuit) == edges == set(found.frequencies) and found.n_stable == len(edges)
    assert found.control.high < 0.5


def test_a_gradient_at_one_end_sees_less():
    """What integrated gradients are for: attention that is sure of itself has no gradient."""
    made = KNOWN["induction"](24, 0)
    one_end = circuits.attribute(made.model, made.pairs, "eap")
    path = circuits.attribute(made.model, made.pairs, "eap-ig", steps=5)
    assert abs(one_end["a0.h0->a1.h1<k>"]) < 0.01 * path["a0.h0->a1.h1<k>"]
    assert torch.isfinite(one_end.matrix).all()
