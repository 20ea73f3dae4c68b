"""Effects of single edges, of all by `exact` and of chosen ones, against a run for each."""

from html import escape

import pytest
from oracles.single_edges import single_edges

import circuits
from circuits.errors import CircuitsError
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.metrics import METRICS
from circuits.options.run import RunOptions


def all_edges(layout):
    return [layout.edge_name(row, column) for row, column in layout.mask.nonzero().tolist()]


def close(found, expected):
    assert float(expected.abs().max()) > 1e-2
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "gptj", "t5"])
@pytest.mark.exhaustive_but("gpt2", "gemma2")
def test_equal_corrupting_every_edge_in_a_run_of_its_own(name, hooked, random_pairs):
    """All of them, as a method and by name; the oracle, which is slow, some."""
    every = 40 if name == "t5" else 3
    model, pairs = hooked(name), random_pairs(n=3, lengths=[9, 7, 9], answers=2)
    exact = circuits.attribute(model, pairs, "exact", per_example=True)
    batch = next(pairs.batches(3))
    edges = model.layout.mask.nonzero()[::every].T
    expected = single_edges(model, batch, METRICS["logit-difference"], every=every)
    close(exact.per_example[batch.index][:, *edges], expected[:, *edges])
    assert not exact.matrix[~model.layout.mask].any()

    names = [edge for edge, _ in exact.top(12)]
    # And some of no weight, of every depth, in no order.
    names = [*names[::-1], *[edge for edge in all_edges(model.layout)[::29] if edge not in names]]
    found = circuits.patch_edges(model, pairs, names, options=RunOptions(batch_size=2))
    rows, columns = zip(*map(model.layout.edge, names), strict=True)
    close(found.values, exact.per_example[:, rows, columns])
    assert found.edges == tuple(names) and found.metric == "logit-difference"


def test_no_more_readers_side_by_side_than_there_is_room_for(hooked, random_pairs, monkeypatch):
    """Their inputs, in all runs together, are what one pass may hold; the effects are the same."""
    model, pairs = hooked("gpt2"), random_pairs(n=2)
    whole = circuits.attribute(model, pairs, "exact")
    cut = []
    run = BatchedCircuitRunner.logits

    def watched(runner, keep):
        lacks = (runner.model.layout.mask & ~keep).any(dim=1)
        cut.append((len(keep), int(lacks.any(dim=0).sum())))
        return run(runner, keep)

    monkeypatch.setattr(BatchedCircuitRunner, "logits", watched)
    monkeypatch.setattr("circuits.runtime.limits.INPUT_BYTES", 0)
    close(circuits.attribute(model, pairs, "exact").matrix, whole.matrix)
    assert max(runs for runs, _ in cut) > 1 and {readers for _, readers in cut} == {1}
    assert sum(runs for runs, _ in cut) == model.layout.n_edges


def test_refined_scores_have_the_measured_effects(hooked, random_pairs, tmp_path):
    model, pairs = hooked("gpt2"), random_pairs(n=3)
    scores = circuits.attribute(model, pairs, "eap")
    names = [edge for edge, _ in scores.top(20)]
    effects = circuits.patch_edges(model, pairs, names)
    refined = effects.refine(scores)
    exact = circuits.attribute(model, pairs, "exact")
    assert refined.method == "eap + 20 exact" and refined.per_example is None
    for name in names:
        assert refined[name] == pytest.approx(exact[name], abs=1e-5 * float(exact.matrix.max()))
        assert refined[name] != scores[name]
    others = [edge for edge in all_edges(model.layout) if edge not in names]
    assert all(refined[edge] == scores[edge] for edge in others)

    refined.save(tmp_path)
    assert circuits.EdgeScores.load(tmp_path).method == refined.method

    frame = effects.to_frame()
    assert list(frame.columns) == ["edge", "effect", "low", "high"] and len(frame) == 20
    assert ((frame.low <= frame.effect) & (frame.effect <= frame.high)).all()
    assert "20 of" in repr(effects) and escape(names[0]) in effects._repr_html_()
    with pytest.raises(CircuitsError, match="do not refine scores of one with"):
        effects.refine(circuits.attribute(hooked("llama"), pairs, "eap"))


def test_what_cannot_be_patched_is_refused(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=1)
    with pytest.raises(CircuitsError, match="m0->logits is named twice"):
        circuits.patch_edges(model, pairs, ["m0->logits", "m1->logits", "m0->logits"])
    with pytest.raises(CircuitsError, match="no edges to patch"):
        circuits.patch_edges(model, pairs, [])
    with pytest.raises(CircuitsError, match="m9"):
        circuits.patch_edges(model, pairs, ["m9->logits"])
