"""The choice of a ranking, against measuring every circuit by itself."""

from dataclasses import replace

import pytest

import circuits
from circuits.errors import CircuitsError
from circuits.evaluation import Estimate, RankingTrials, choose_ranking, measure
from circuits.evaluation.judged_lines import JudgedLine, _decide
from circuits.evaluation.measure import faithfulness_from_means
from circuits.graph import Circuit, EdgeScores, Provenance, select, select_nodes
from circuits.known import load


@pytest.fixture(scope="module")
def case(hooked, random_pairs):
    model = hooked("gpt2")
    pairs = random_pairs(n=12)
    scores = circuits.attribute(model, pairs[:6], "eap-ig", steps=3)
    return model, scores, pairs[6:]


def test_the_ranking_taken_is_the_one_whose_circuits_are_nearest(case, tmp_path):
    model, scores, pairs = case
    choice = choose_ranking(model, scores, pairs, RankingTrials(30))
    assert [one.name for one in choice.trials] == ["absolute", "signed", "mixed 0.8"]
    seen = set()
    for one in choice.trials:
        circuit = select(scores, size=30, ranking=one.ranking, positive_ratio=one.positive_ratio)
        (f,) = faithfulness_from_means(
            measure(model, pairs, [circuit]).columns.mean(dim=0)
        ).tolist()
        assert one.f.value == pytest.approx(f, abs=1e-6) and one.n_kept == len(circuit)
        assert one.abs_gap.value == pytest.approx(abs(1 - f), abs=1e-6)
        assert one.area_abs_gap.value > 0
        seen.add(round(f, 4))
    assert len(seen) > 1
    circuit = choice.select(scores)
    how = {"ranking": choice.ranking, "positive_ratio": choice.positive_ratio}
    assert circuit.edges == select(scores, size=30, **how).edges
    circuit.save(tmp_path / "circuit.json")
    assert Circuit.load(tmp_path / "circuit.json").provenance.selection.choice == choice
    assert choice.n == 6
    assert choice.taken.ranking == choice.ranking


@pytest.mark.parametrize("level", ["node", "neuron"])
def test_nodes_and_neurons_have_the_same_rankings_to_choose_from(hooked, random_pairs, level):
    model, pairs = hooked("gpt2"), random_pairs(n=10)
    scores = circuits.attribute_nodes(model, pairs[:4], "eap-ig", level=level, steps=2)
    size = len(scores.values) // 3
    choice = choose_ranking(model, scores, pairs[4:], RankingTrials(size))
    assert [one.name for one in choice.trials] == ["absolute", "signed", "mixed 0.8"]
    f = {}
    for one in choice.trials:
        how = {"ranking": one.ranking, "positive_ratio": one.positive_ratio}
        circuit = select_nodes(scores, size, **how)
        (value,) = faithfulness_from_means(
            measure(model, pairs[4:], [circuit]).columns.mean(dim=0)
        ).tolist()
        assert one.f.value == pytest.approx(value, abs=1e-6) and one.n_kept == size
        f[one.name] = value
    assert len({round(value, 4) for value in f.values()}) == 3
    nearest = min(f, key=lambda name: abs(1 - f[name]))
    assert nearest in (choice.taken.name, *choice.not_told_apart)
    circuit = choice.select(scores)
    how = {"ranking": choice.ranking, "positive_ratio": choice.positive_ratio}
    assert circuit.mask.equal(select_nodes(scores, size, **how).mask)
    assert circuit.provenance.selection.choice.size == size


@pytest.mark.parametrize(
    ("name", "loses", "f_lost"), [("negative-head", "signed", 2.0), ("induction", "absolute", 0.7)]
)
def test_the_choice_does_not_lose_where_one_ranking_does(name, loses, f_lost):
    """The negative head is a part of its circuit, which the signed ranking leaves out. In the other
    model a head outside the circuit is given the largest score, against the answer, which the
    absolute ranking takes in.
    """
    known = load(name)
    scored_on, others, judged = (known.pairs(16, seed) for seed in range(3))
    others = replace(others, pairs=others.without(scored_on.fingerprints))
    scores = circuits.attribute_nodes(known.model, scored_on, "eap-ig")
    built = {edge.split("->")[0] for edge in known.edges} - {"input"}
    if loses == "absolute":
        outside = scores.units.find(next(n for n in scores.layout.sources[1:] if n not in built))
        scores.values[outside] = -2 * scores.values.abs().max()
    choice = choose_ranking(known.model, scores, others, RankingTrials(len(built)))
    lost = select_nodes(scores, len(built), ranking=loses)
    taken, f = faithfulness_from_means(
        measure(known.model, judged, [choice.select(scores), lost]).columns.mean(dim=0)
    ).tolist()
    assert taken == pytest.approx(1, abs=0.01) and choice.ranking != loses
    assert f == pytest.approx(f_lost, abs=0.2)


def line(f, area):
    flat = Estimate(0.0, 0.0, 0.0, 9)
    return JudgedLine(
        f=replace(flat, value=f),
        abs_gap=replace(flat, value=abs(1 - f)),
        area_abs_gap=replace(flat, value=area),
        n_kept=1,
    )


@pytest.mark.parametrize(("surely", "taken"), [(True, 1), (False, 0)])
def test_size_decides_where_it_can_and_the_area_where_it_cannot(surely, taken):
    lines = [line(0.7, 0.1), line(0.95, 0.3), line(-1.0, 0.01)]

    def difference(a, b):
        value = lines[a].abs_gap.value - lines[b].abs_gap.value
        width = 0.1 if surely else 0.5
        return Estimate(value, value - width, value + width, 9)

    found, others = _decide(lines, [[difference(a, b) for b in range(3)] for a in range(3)])
    assert found == taken and others == (() if surely else (1,))


def test_scored_pairs_are_refused(case, random_pairs):
    model, scores, _ = case
    known = EdgeScores(
        scores.matrix, scores.layout, "x", Provenance(pairs=scores.provenance.pairs[:2])
    )
    with pytest.raises(CircuitsError, match="2 of the 12 pairs were scored on"):
        choose_ranking(model, known, random_pairs(n=12), RankingTrials(9))


def test_the_reason_is_said_from_what_was_not_told_apart(case):
    model, scores, pairs = case
    choice = choose_ranking(model, scores, pairs, RankingTrials(30))
    alone = choice.model_copy(update={"not_told_apart": ()})
    assert alone.reason == "f is nearest to 1 at this size"
    two = choice.model_copy(update={"not_told_apart": ("signed", "mixed 0.8")})
    assert "does not tell it from signed and mixed 0.8," in two.reason
