"""The choice of a ranking, against measuring every circuit by itself."""

from dataclasses import replace

import pytest

import circuits
from circuits.errors import CircuitsError
from circuits.evaluation import Estimate, RankingTrials, choose_ranking, measure
from circuits.evaluation.judged_lines import JudgedLine, _decide
from circuits.evaluation.measure import faithfulness_from_means
from circuits.graph import Circuit, EdgeScores, Provenance, select


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


def test_nodes_have_two_rankings_to_choose_from(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=8)
    scores = circuits.attribute_nodes(model, pairs[:4], "eap-ig", steps=2)
    choice = choose_ranking(model, scores, pairs[4:], RankingTrials(5))
    assert [one.name for one in choice.trials] == ["absolute", "signed"]
    assert choice.select(scores).provenance.selection.choice.size == 5


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
