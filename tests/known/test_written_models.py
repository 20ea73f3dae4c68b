"""Models written for a circuit: they do their task, by the edges that they are said to have."""

import itertools
import re
from pathlib import Path

import pytest
import scipy.stats
import torch
from oracles.single_edges import single_edges

import circuits
from circuits import known
from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores
from circuits.intervention import CircuitRunner
from circuits.metrics import METRICS
from circuits.models import HookedModel

ROUNDING = 5e-5  # of what lies between the clean and the corrupted metric
MATTERS = 0.1
PAIRS = 6  # every kind of corruption, of two or three, more than once


def batch_of(one, n=PAIRS, seed=0):
    pairs = one.pairs(n, seed)
    return pairs.batch(list(range(n)))


def solved(one):
    """The share of answers that the model says, each position for itself."""
    batch = batch_of(one, 100, seed=1)
    said = one.model.logits(batch.clean, batch).argmax(dim=-1)
    return float((batch.answer == said[:, None]).any(dim=1).double().mean())


@pytest.fixture(scope="module", params=known.names())
def measured(request):
    """A model, a batch, what lies between the metrics of its ends, and every edge's effect."""
    one = known.load(request.param)
    effects = circuits.attribute(one.model, one.pairs(PAIRS), "exact", per_example=True)
    gap = effects.provenance.metric_clean - effects.provenance.metric_corrupted
    return one, batch_of(one), gap, effects.per_example / gap


def test_there_are_many():
    assert len(known.names()) >= 12


def test_the_page_tells_of_each_with_its_number_of_edges(measured):
    one = measured[0]
    page = (Path(__file__).parents[2] / "docs" / "known-edges.md").read_text(encoding="utf-8")
    (row,) = re.findall(
        rf"^\| {one.name} \| ([^|]*) \| (\d+)(?:, (\d+) hidden)?[^|]*\|$", page, re.M
    )
    assert row[0].endswith(" (Llama)") == (one.model.hf.config.model_type == "llama")
    assert row[0].removesuffix(" (Llama)") in one.description.replace(" (a Llama)", "")
    assert int(row[1]) == len(one.edges) and int(row[2] or 0) == len(one.hidden)


def test_the_task_is_solved(measured):
    assert solved(measured[0]) == 1


@pytest.mark.parametrize("name", known.names())
def test_the_task_is_solved_where_it_is_hard(name):
    assert solved(known.load(name, interference=0.1, sharpness=3.0)) == 1


def test_edges_that_matter_are_those_of_the_construction(measured):
    one, _, gap, effects = measured
    layout = one.model.layout
    assert gap > 0.3
    largest = effects.abs().amax(dim=0)
    assert float(largest[layout.mask & ~one.circuit.mask].max()) < ROUNDING
    for edge in one.edges:
        alone = float(largest[layout.edge(edge)])
        assert alone < ROUNDING if edge in one.hidden else alone > MATTERS, edge


def test_the_edges_together_are_the_model(measured):
    """All others are corrupted at once, and no logit moves: what stands in for them is in them."""
    one, batch, _, _ = measured
    runner = CircuitRunner(one.model, batch)
    whole = runner.logits(one.circuit)
    scale = float(runner.clean.abs().max())
    assert float((whole - runner.clean).abs().max()) < ROUNDING * scale
    assert float((runner.corrupted - runner.clean).abs().max()) > MATTERS * scale


def test_hidden_edges_matter_with_what_hides_them(measured):
    one, batch, gap, _ = measured
    assert set(one.hidden) <= set(one.edges)
    runner, metric, layout = CircuitRunner(one.model, batch), METRICS[one.metric], one.model.layout

    def without(*edges):
        keep = Circuit.of(layout, set(Circuit.full(layout).edges) - set(edges))
        return metric(runner.logits(keep), batch, runner.clean) / gap

    for edge, others in one.hidden.items():
        assert others <= set(one.edges)
        assert float((without(*others) - without(edge, *others)).max()) > MATTERS, edge
    assert bool(one.hidden) == (one.name in ("backup", "or-gate"))


def test_edges_work_for_or_against_the_answer(measured):
    one, _, _, effects = measured
    expected = {
        "backup": {"a0.h0->a1.h2<q>"},
        "negative-head": {
            "a0.h1->a1.h3<q>", "input->a1.h3<k>", "input->a1.h3<v>", "a1.h3->logits"
        },
    }  # fmt: skip
    mean = effects.mean(0)
    layout = one.model.layout
    against = {edge for edge in one.edges if float(mean[layout.edge(edge)]) < -ROUNDING}
    assert against == expected.get(one.name, set())


@pytest.mark.parametrize("name", ["backup", "sorting"])
def test_exact_scores_are_those_of_single_runs(name):
    one = known.load(name, interference=0.1)
    pairs = one.pairs(3)
    found = circuits.attribute(one.model, pairs, "exact", per_example=True).per_example
    expected = single_edges(one.model, batch_of(one, 3), METRICS[one.metric], every=5)
    run = torch.zeros(one.model.layout.shape, dtype=torch.bool)
    run[tuple(one.model.layout.mask.nonzero()[::5].T)] = True
    torch.testing.assert_close(found[:, run], expected[:, run], atol=1e-4, rtol=1e-4)
    assert float(expected.abs().max()) > 0.1


@pytest.mark.parametrize("name", ["copying", "modular-addition"])
def test_interference_gives_other_edges_a_little(name):
    one = known.load(name, interference=0.1)
    layout = one.model.layout
    effects = circuits.attribute(one.model, one.pairs(PAIRS), "exact").matrix.abs()
    inside, outside = effects[one.circuit.mask], effects[layout.mask & ~one.circuit.mask]
    assert float(outside.max()) < 0.1 * float(inside.min())
    assert float((outside > 1e-4 * inside.max()).double().mean()) > 0.5


def test_auroc_counts_comparisons():
    """Against every comparison by itself, and SciPy's U."""
    one = known.load("backup", interference=0.1)
    scores = circuits.attribute(one.model, one.pairs(PAIRS), "eap-ig")
    names = Circuit.full(one.model.layout).edges
    inside = [abs(scores[edge]) for edge in names if edge in one.edges]
    outside = [abs(scores[edge]) for edge in names if edge not in one.edges]
    wins = sum((a > b) + (a == b) / 2 for a, b in itertools.product(inside, outside))
    slow = wins / len(inside) / len(outside)
    u = scipy.stats.mannwhitneyu(inside, outside).statistic
    assert slow == pytest.approx(u / len(inside) / len(outside), abs=1e-9)
    assert 0.5 < slow < 1 and one.auroc(scores) == pytest.approx(slow, abs=1e-6)
    best = sorted([*((a, 1) for a in inside), *((b, 0) for b in outside)])[-len(inside) :]
    assert one.found_first(scores) == pytest.approx(sum(hit for _, hit in best) / len(inside))


def test_equal_scores_count_half():
    inside = torch.tensor([True, True, False, False, False])
    values = torch.tensor([[3.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert known.auroc(values, inside).tolist() == pytest.approx([5.5 / 6, 0.5])
    assert known.found_first(values, inside).tolist() == pytest.approx([0.75, 0.4])


def test_rounding_is_no_score():
    one = known.load("and-gate")
    layout = one.model.layout
    matrix = torch.full(layout.shape, 1e-7) * layout.mask
    for edge in one.edges:
        matrix[layout.edge(edge)] = 2e-7
    matrix[layout.edge("m0->logits")] = 1.0
    scores = EdgeScores(matrix, layout, "by hand")
    assert one.auroc(scores) == pytest.approx(1 / 5 + 4 / 5 / 2)


def test_equal_arguments_give_equal_models():
    first, again = (known.load("copying", interference=0.1) for _ in range(2))
    assert first.model.fingerprint == again.model.fingerprint
    assert first.model.fingerprint != known.load("copying").model.fingerprint
    assert first.pairs(5, 1) == again.pairs(5, 1) != first.pairs(5, 2)


@pytest.mark.parametrize("name", ["induction", "lookup"])
def test_a_saved_model_is_loaded_as_any_other(name, tmp_path):
    one = known.load(name)
    one.save(tmp_path)
    loaded, batch = HookedModel.from_pretrained(tmp_path, device="cpu"), batch_of(one, 3)
    expected = one.model.logits(batch.clean, batch)
    torch.testing.assert_close(loaded.logits(batch.clean, batch), expected)
    assert set(Circuit.load(tmp_path / "circuit.json").edges) == set(one.edges)


def test_what_is_unknown_is_refused():
    with pytest.raises(CircuitsError, match=r"unknown model 'sort'; known: .*sorting"):
        known.load("sort")
    with pytest.raises(CircuitsError, match="at least 0"):
        known.load("sorting", interference=-1.0)
    with pytest.raises(CircuitsError, match="above 0"):
        known.load("sorting", sharpness=0.0)
    one, other = known.load("sorting"), known.load("chain")
    scores = circuits.attribute(other.model, other.pairs(2), "eap")
    with pytest.raises(CircuitsError, match="3 layers, 4 heads; sorting has 2 layers"):
        one.auroc(scores)
