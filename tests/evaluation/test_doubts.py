"""What a reviewer asks: on models whose answer is known, and against slow references."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from known.build import induction

import circuits
from circuits.evaluation import (
    BackupsConfig,
    ClustersConfig,
    EvalConfig,
    MinimalityConfig,
    RivalsConfig,
    avoiding,
    backups,
    by_ablation,
    clusters,
    equivalence_test,
    evaluate,
    independence_test,
    measure,
    minimality,
    null_model,
    rivals,
    worst_examples,
)
from circuits.evaluation.doubts import doubts
from circuits.evaluation.measure import Judged, faithfulness_from_means
from circuits.evaluation.results import CheckpointEvaluation
from circuits.graph import Circuit, NodeCircuit, select
from circuits.graph.controls import random_circuit
from circuits.models.scrambled import scrambled
from circuits.statistics import generator, resample_weights
from circuits.statistics.independence import independence_p


@pytest.fixture(scope="module")
def known():
    """A model of one mechanism: scores on one draw, the circuit, pairs of another draw."""
    built = induction(24, 0)
    scores = circuits.attribute(built.model, built.pairs, per_example=True)
    circuit = select(scores, size=len(built.edges))
    assert set(circuit.edges) == built.edges
    return built.model, scores, circuit, built.pairs, induction(12, 1).pairs


# -- the worst examples


def made(circuit, clean=None):
    """Runs of a circuit and of a control that keeps nothing."""
    n = len(circuit)
    clean = torch.full((n,), 2.0, dtype=torch.float64) if clean is None else clean
    none = torch.zeros(n, dtype=torch.float64)
    return Judged("m", clean, none, torch.stack([circuit, none], dim=1), torch.zeros(n, 4))


def test_the_worst_tenth_is_the_mean_of_those_that_keep_least():
    kept = torch.linspace(0, 3, 20, dtype=torch.float64)[torch.randperm(20, generator=generator(0))]
    clean = torch.linspace(1, 3, 20, dtype=torch.float64)
    measured = made(kept, clean)
    found = worst_examples(measured, [f"row {place}" for place in range(20)], seed=0)
    shares = (1 - (clean - kept) / clean.mean()).tolist()
    assert sum(shares) / 20 == pytest.approx(float(kept.mean() / clean.mean())), "f is their mean"
    order = sorted(range(20), key=shares.__getitem__)
    assert found.n_worst == 2
    assert found.worst.value == pytest.approx((shares[order[0]] + shares[order[1]]) / 2)
    assert found.rows == tuple(
        (f"row {place}", pytest.approx(shares[place])) for place in order[:5]
    )
    assert found.below_half == sum(share < 0.5 for share in shares) / 20
    assert found.control.value < found.worst.value < 0.5


def test_the_interval_of_the_worst_tenth_is_of_resamples_that_find_it_anew():
    """The slow way: each resample's examples written out, sorted, and their tenth averaged."""
    draw = generator(1)
    kept = torch.randn(30, generator=draw, dtype=torch.float64) + 1
    found = worst_examples(made(kept), ["row"] * 30, seed=5)
    counts = (30 * resample_weights(30, 1000, seed=5)).round().long()
    tails = []
    for row in counts:
        drawn = kept.repeat_interleave(row).sort().values
        tails.append(float(drawn[:3].mean()) / 2)
    tails = torch.tensor(tails, dtype=torch.float64)
    assert tails.min() <= found.worst.low <= found.worst.value <= found.worst.high <= tails.max()
    spread = float(tails.quantile(0.975) - tails.quantile(0.025))
    assert found.worst.high - found.worst.low == pytest.approx(spread, rel=0.25)
    reversed_sign = replace(made(-kept), clean=torch.full((30,), -2.0, dtype=torch.float64))
    assert worst_examples(reversed_sign, ["row"] * 30, seed=5).worst.value == pytest.approx(
        found.worst.value
    )
    lone = worst_examples(made(kept[:1]), ["row"], seed=0)
    assert math.isnan(lone.worst.low) and lone.n_worst == 1


# -- tests of an ideal circuit


def test_equivalence_counts_signs_by_the_binomial_distribution():
    model = torch.zeros(12, dtype=torch.float64)
    circuit = torch.tensor([1.0] * 3 + [-1.0] * 7 + [0.0] * 2, dtype=torch.float64)
    found = equivalence_test(model, circuit)
    assert (found.above, found.below) == (3, 7)
    chance = sum(
        0.6 ** sum(signs) * 0.4 ** (10 - sum(signs))
        for signs in itertools.product((0, 1), repeat=10)
        if sum(signs) <= 3 or sum(signs) >= 7
    )
    assert found.p == pytest.approx(chance) and not found.rejected
    assert equivalence_test(model, circuit * 0).p == 1
    below = equivalence_test(torch.ones(40), torch.full((40,), 0.99))
    assert below.rejected and below.below == 40


def slow_criterion(one, other):
    """The Hilbert-Schmidt criterion by its definition, in loops."""
    n = len(one)
    kernels = []
    for side in (one, other):
        apart = sorted((side[i] - side[j]) ** 2 for i in range(n) for j in range(i))
        width = apart[(len(apart) - 1) // 2]
        kernels.append(
            [
                [math.exp(-((side[i] - side[j]) ** 2) / (2 * width)) for j in range(n)]
                for i in range(n)
            ]
        )
    centred = [
        [
            [
                k[i][j] - sum(k[i]) / n - sum(row[j] for row in k) / n + sum(map(sum, k)) / n**2
                for j in range(n)
            ]
            for i in range(n)
        ]
        for k in kernels
    ]
    return sum(centred[0][i][j] * centred[1][i][j] for i in range(n) for j in range(n))


def test_independence_equals_the_definition_over_all_orders():
    draw = generator(3)
    one, other = torch.randn(2, 6, generator=draw, dtype=torch.float64)
    observed = slow_criterion(one.tolist(), other.tolist())
    assert observed > 0
    orders = list(itertools.permutations(range(6)))
    reached = [
        slow_criterion(one.tolist(), [float(other[place]) for place in order]) >= observed - 1e-12
        for order in orders
    ]
    share = sum(reached) / len(orders)
    found = independence_p(one, other, permutations=4000, draw=generator(4))
    assert found == pytest.approx(share, abs=0.03) and 0.02 < share < 0.98
    line = torch.linspace(-1, 1, 30)
    assert independence_test(line, line.square(), line * 0 - 1, seed=0).rejected, "uncorrelated"
    apart = independence_test(line, torch.ones(30), line * 0 - 1, seed=0)
    assert apart.p == 1 and apart.rest == pytest.approx(2)


def test_edges_that_lead_nowhere_are_needless(known):
    model, _, circuit, _, pairs = known
    config = MinimalityConfig(n_controls=15, n_pairs=3)
    lean = minimality(model, circuit, pairs, config=config)
    assert not lean.test.rejected and lean.test.n_paths == 15
    dead = "a0.h2->a1.h0<q>"
    padded = Circuit.of(circuit.layout, [*circuit.edges, dead])
    found = minimality(model, padded, pairs, config=config)
    assert found.test.needless == (dead,) and found.test.rejected
    assert len(found.control) == 15 and found.drops[dead].value == 0
    of_nodes = minimality(model, circuit, pairs, config=MinimalityConfig("node", 2, n_pairs=3))
    assert of_nodes.test is None


# -- another circuit


def test_no_other_circuit_does_the_task_of_a_model_with_one_mechanism(known):
    model, scores, circuit, _, pairs = known
    found = rivals(model, circuit, avoiding(scores, circuit), pairs)
    assert [one.multiple for one in found.rivals] == [1, 2, 4]
    assert found.circuit.value == pytest.approx(1, abs=0.01)
    assert found.smallest is None and all(one.f.value < 0.5 for one in found.rivals)


def test_the_twin_is_found_and_shares_nothing():
    built = induction(24, 0, "twin")
    scores = circuits.attribute(built.model, built.pairs)
    held = Circuit.of(scores.layout, built.edges)
    others = avoiding(scores, held)
    found = rivals(built.model, held, others, induction(12, 1).pairs)
    assert found.circuit.value == pytest.approx(0.5, abs=0.02)
    twin = others[4]
    shared = {*twin.edges} & {*held.edges}
    assert "a1.h0->logits" in twin.edges and all(edge.startswith("input->") for edge in shared)
    best = found.smallest
    assert best is not None and best.f.value == pytest.approx(0.5, abs=0.02)
    assert best.gap.value == pytest.approx(0, abs=0.02) and best.shared_nodes < 1


def test_what_avoids_a_circuit_is_the_rest_of_the_order(known):
    _, scores, *_ = known
    top = select(scores, size=9, strategy="top-n")
    other = avoiding(scores, top, RivalsConfig((3,)))[3]
    every = [name for name, _ in scores.top(scores.layout.n_edges)]
    names = [name for name in every if name not in top.edges or name.startswith("input->")]
    assert other.mask.equal(Circuit.of(scores.layout, names[:27]).pruned().mask)
    with pytest.raises(circuits.CircuitsError, match="not of these scores"):
        avoiding(scores, Circuit.empty(circuits.graph.Layout(1, 1, 1)))


# -- backups


def test_the_head_that_takes_over_is_named():
    """Under zero ablation the slot is empty where the circuit is out, and the backup sees it."""
    built = induction(12, 0, "backup")
    seen = "a1.h1->a2.h0<q>"  # by which the backup knows whether it is wanted
    held = Circuit.of(built.model.layout, {*built.edges, seen})
    config = BackupsConfig(n_candidates=3)
    found = backups(built.model, held, built.pairs, config=config, ablation="zero")
    assert [one.name for one in found.found] == ["a2.h0"] and found.n_search_examples == 6
    (one,) = found.found
    assert one.in_circuit and one.growth.low > 0.5, "by the edge that it sees the circuit by"
    assert abs(one.alone.value) < 0.1 and one.after.value == pytest.approx(
        found.rest.value, abs=0.1
    )
    assert found.rest.value > 0.9 and abs(found.without.value) < 0.1
    assert found.control.value > 0.5, "other nodes are no such loss"


def test_nothing_takes_over_in_a_model_with_one_mechanism(known):
    model, _, circuit, _, pairs = known
    found = backups(model, circuit, pairs, config=BackupsConfig(n_candidates=2))
    assert found.found == () and found.rest.value == pytest.approx(0, abs=0.05)
    assert found.without == found.rest
    assert found.control.value == pytest.approx(found.rest.value)
    with pytest.raises(circuits.CircuitsError, match="two pairs"):
        backups(model, circuit, pairs[:1])
    with pytest.raises(circuits.CircuitsError, match="accuracy has none"):
        backups(model, circuit, pairs, metric="accuracy")


def test_of_a_circuit_of_nodes_what_is_left_is_all_other_nodes(known):
    model, _, _, _, pairs = known
    held = NodeCircuit.of(model.layout, {"input", "a1.h1"})
    found = backups(model, held, pairs, config=BackupsConfig(n_steps=1, n_candidates=2))
    rest = NodeCircuit.of(model.layout, {*model.layout.sources} - {"a1.h1"})
    report = replace(pairs, pairs=pairs.pairs[::2])
    f = faithfulness_from_means(measure(model, report, [rest]).columns.mean(dim=0))
    assert found.rest.value == pytest.approx(float(f)) and found.found == ()
    whole = faithfulness_from_means(measure(model, pairs, [held]).columns.mean(dim=0))
    assert float(whole) != pytest.approx(float(f), abs=0.1), "both are asked, and differ"


# -- groups of prompts


def test_the_three_kinds_of_corruption_are_more_than_one_group(known):
    """q, k and v each carry a third of the pairs."""
    _, scores, *_ = known
    found = clusters(scores)
    assert found.has_groups and {name for name, *_ in found.telling} <= set(known[2].edges)
    with pytest.raises(circuits.CircuitsError, match="at least 8 examples"):
        clusters(replace(scores, per_example=scores.per_example[:7]))


# -- a model that learned nothing


def test_scrambled_weights_are_the_same_numbers_in_another_order(hooked):
    model = hooked("llama")
    before = {name: value.clone() for name, value in model.hf.named_parameters()}
    shuffled, again = (scrambled(model, "shuffled", seed=1) for _ in range(2))
    initial = scrambled(model, "initial", seed=1)
    moved = 0
    for (name, value), same, drawn in zip(
        shuffled.hf.named_parameters(), again.hf.parameters(), initial.hf.parameters(), strict=True
    ):
        assert value.flatten().sort().values.equal(before[name].flatten().sort().values)
        assert value.equal(same) and drawn.shape == value.shape
        moved += not value.equal(before[name])
        assert model.hf.get_parameter(name).equal(before[name]), "the model stays as it was"
    assert moved > len(before) / 2
    assert initial.fingerprint != shuffled.fingerprint != model.fingerprint


def test_the_null_model_is_the_pipeline_done_by_hand(known):
    model, scores, circuit, scored_on, pairs = known
    found = null_model(model, scores, circuit, scored_on, pairs)
    null = scrambled(model, "shuffled", seed=0)
    there = select(circuits.attribute(null, scored_on), size=len(circuit))
    for net, held, estimates in (
        (model, circuit, (found.circuit, found.control)),
        (null, there, (found.draws[0].circuit, found.draws[0].control)),
    ):
        random = random_circuit(held, seed=0)
        runs = measure(net, pairs, [held, random], metric="kl-divergence")
        f = faithfulness_from_means(runs.columns.mean(dim=0)).tolist()
        assert [one.value for one in estimates] == pytest.approx(f)
    assert found.circuit.value == pytest.approx(1, abs=0.01) and found.accuracy.value == 1
    assert found.difference.value == pytest.approx(
        found.circuit.value - found.draws[0].circuit.value
    )
    assert found.beaten and len(found.draws) == 1
    with pytest.raises(circuits.CircuitsError, match="these are others"):
        null_model(model, scores, circuit, pairs, pairs)
    with pytest.raises(circuits.CircuitsError, match="not made by a method"):
        by_hand = Circuit.of(scores.layout, circuit.edges)
        null_model(model, scores, by_hand, scored_on, pairs)


# -- all together


def test_ablations_stand_side_by_side(known, hooked, random_pairs):
    model, _, circuit, _, pairs = known
    found = by_ablation(model, circuit, pairs, ("corrupted", "mean", "zero"))
    assert list(found) == ["corrupted", "mean", "zero"]
    for ablation, one in found.items():
        runs = measure(model, pairs, [circuit], ablation=ablation)
        f = float(faithfulness_from_means(runs.columns.mean(dim=0))[0])
        assert one.circuit.value == pytest.approx(f) and one.accuracy.model.value == 1
        assert one.accuracy.circuit.value == float(runs.right[:, 2].mean())
    assert found["corrupted"].accuracy.corrupted.value == 0
    bart, few = hooked("bart"), random_pairs(n=2)
    refused = by_ablation(bart, Circuit.full(bart.layout), few, ("corrupted", "zero"))
    assert "not defined for post-norm models" in refused["zero"].undefined_reason
    assert refused["corrupted"].circuit.value == pytest.approx(1, abs=1e-3)


def test_every_doubt_is_answered_in_a_line(known):
    model, scores, circuit, _, pairs = known
    asked = EvalConfig(
        minimality=MinimalityConfig(n_controls=3, n_pairs=3),
        backups=BackupsConfig(n_steps=1, n_candidates=1, n_pairs=4),
        clusters=ClustersConfig(n_clouds=19),
    )
    pairs = pairs[:6]
    found = evaluate(model, scores, circuit, pairs, config=asked)
    assert found.robustness["evaluate"].accuracy.circuit.value == 1
    assert found.curves.accuracy.value == 1 == found.curves.curves["absolute"].accuracy[-1].value
    assert found.tests.independence.rest == pytest.approx(0, abs=0.05)
    assert not found.tests.equivalence.rejected, "the same but for rounding"
    lines = dict(doubts(found))
    assert list(lines) == [
        "accuracy",
        "worst tenth of the examples",
        "stability elsewhere",
        "another circuit that shares nothing with it",
        "backups",
        "groups of prompts",
        "test of equivalence",
        "test of independence",
        "test of minimality",
    ]
    assert lines["another circuit that shares nothing with it"].startswith("none of these sizes")
    assert "no node was found" in lines["backups"]
    assert lines["groups of prompts"].startswith("two, of 16 and 8")
    assert not any("p = 0.00" in line for line in lines.values()), "p < 0.001 in place of 0"
    again = CheckpointEvaluation.model_validate_json(
        CheckpointEvaluation(**dict(found)).model_dump_json()
    )
    assert dict(doubts(again)) == lines
    silent = EvalConfig(rivals=None, clusters=None, ablations=())
    bare = evaluate(model, scores, circuit, pairs[:2], config=silent)
    assert bare.rivals is bare.clusters is bare.backups is None and bare.ablations == {}
