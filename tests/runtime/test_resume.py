"""Work stopped half-way: what was done is kept, goes on to the same bytes, and is never mixed."""

import json
import logging
import sys
from itertools import chain

import pytest
import torch

from circuits.attribution import attribute, attribute_nodes
from circuits.comparison import cross_evaluate
from circuits.errors import CircuitsError
from circuits.evaluation import EvalConfig, evaluate
from circuits.graph import select
from circuits.intervention.patching import PatchSpec, patch, path_patch
from circuits.model_diff import diff_models
from circuits.model_diff.documents import diff_documents
from circuits.model_diff.hidden import checkpoint_states
from circuits.options.evaluation import CompletenessConfig, MinimalityConfig, StabilityConfig
from circuits.options.run import RunOptions
from circuits.runtime import resume as module
from circuits.runtime.resume import NAME, PartialResults, Pieces

SCORING = sys.modules["circuits.attribution.dataset_scores"]
MEASURE = sys.modules["circuits.evaluation.measure"]
DOCUMENTS, HIDDEN = (
    sys.modules[function.__module__] for function in (diff_documents, checkpoint_states)
)
SWEEP, PATH = (sys.modules[function.__module__] for function in (patch, path_patch))


class Stopped(BaseException):
    """As Ctrl-C: no Exception."""


def stop_after(monkeypatch, batches, where=SCORING):
    """Let the work do so many batches, then stop; returns the examples of each that ran."""
    over, ran = where.over_batches, []

    def counted(model, pairs, work, **settings):
        def stop_or_work(hooked, batch):
            if len(ran) == batches:
                raise Stopped
            ran.append(batch.index.tolist())
            return work(hooked, batch)

        return over(model, pairs, stop_or_work, **settings)

    monkeypatch.setattr(where, "over_batches", counted)
    return ran


def scored(model, pairs, path, **settings):
    with PartialResults(path) as resume:
        return attribute(
            model, pairs, options=RunOptions(2), per_example=True, resume=resume, **settings
        )


def stopped_half_way(model, pairs, path, **settings):
    with pytest.MonkeyPatch.context() as patch:
        ran = stop_after(patch, 2)
        with pytest.raises(Stopped):
            scored(model, pairs, path, **settings)
    return ran


@pytest.mark.parametrize("method", ["eap-ig", "information-flow", "random"])
def test_scores_go_on_to_the_same_bytes(method, hooked, random_pairs, tmp_path, monkeypatch):
    model, pairs, path = hooked("gpt2"), random_pairs(n=7), tmp_path / NAME
    whole = scored(model, pairs, None, method=method)
    first = stopped_half_way(model, pairs, path, method=method)
    assert path.exists()
    second = stop_after(monkeypatch, 99)
    again = scored(model, pairs, path, method=method)
    assert not path.exists()
    assert [len(part) for part in (first, second)] == [2, 2]
    assert sorted(chain(*first, *second)) == list(range(7))
    assert float(whole.matrix.abs().max()) > 0
    assert torch.equal(again.matrix, whole.matrix)
    assert torch.equal(again.per_example, whole.per_example)
    assert again.provenance == whole.provenance


def test_nodes_go_on_too(hooked, random_pairs, tmp_path, monkeypatch):
    model, pairs = hooked("gpt2"), random_pairs(n=5)

    def nodes():
        with PartialResults(tmp_path / NAME) as resume:
            return attribute_nodes(model, pairs, options=RunOptions(1), resume=resume)

    whole = nodes()
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            nodes()
    second = stop_after(monkeypatch, 99)
    assert torch.equal(nodes().values, whole.values)
    assert len(second) == 2


@pytest.mark.parametrize(
    ("where", "given"),
    [
        (SWEEP, {"site": "z", "sweep": ("layer", "head")}),
        (SWEEP, {"site": "resid_pre"}),
        (PATH, None),
    ],
)
def test_patching_goes_on_too(where, given, hooked, random_pairs, tmp_path, monkeypatch):
    model, pairs, path = hooked("gpt2"), random_pairs(n=5), tmp_path / "patching.partial"

    def patched(**other):
        with PartialResults(path) as resume:
            settings = {"options": RunOptions(batch_size=2), "resume": resume}
            if given is None:
                paths = ["a0.h0->logits", "input->m0"]
                found = path_patch(model, pairs, paths, freeze_mlps=False, **settings, **other)
            else:
                found = patch(model, pairs, PatchSpec(**given, **other), **settings)
            found.save(tmp_path / "it.json")
        return (tmp_path / "it.json").read_bytes()

    whole = patched()
    with monkeypatch.context() as half_way:
        first = stop_after(half_way, 1, where)
        with pytest.raises(Stopped):
            patched()
    other = "denoise" if given is None else "noise"
    with pytest.raises(CircuitsError, match=r"patching\.partial: .* with other direction;"):
        patched(direction=other)
    second = stop_after(monkeypatch, 99, where)
    again = patched()
    assert not path.exists()
    assert [len(part) for part in (first, second)] == [1, 2]
    assert again == whole


def everything(model, scores, circuit, pairs, path, **other):
    config = EvalConfig(
        minimality=MinimalityConfig(n_controls=2, n_pairs=2),
        completeness=CompletenessConfig(n_sets=2, n_steps=2, n_candidates=3, n_pairs=4),
        stability=StabilityConfig(3),
        **other,
    )
    options = RunOptions(batch_size=2)
    more = {"more": pairs[:3]}
    with Pieces(path) as resume:
        found = evaluate(
            *(model, scores, circuit, pairs),
            config=config,
            conditions=more,
            options=options,
            resume=resume,
        )
    return json.dumps(found.model_dump(mode="json"), sort_keys=True)


@pytest.mark.parametrize("batches", [1, 9])
@pytest.mark.exhaustive_but("9")
def test_evaluation_goes_on_too(batches, hooked, random_pairs, tmp_path):
    model, pairs, path = hooked("gpt2"), random_pairs(n=4), tmp_path / "evaluation.partial"
    scores = attribute(model, random_pairs(n=2, seed=1), per_example=True)
    circuit = select(scores, size=12)
    given = (model, scores, circuit, pairs)
    with pytest.MonkeyPatch.context() as counting:
        every = stop_after(counting, 999, MEASURE)
        whole = everything(*given, None)
    with pytest.MonkeyPatch.context() as half_way:
        first = stop_after(half_way, batches, MEASURE)
        with pytest.raises(Stopped):
            everything(*given, path)
    assert path.is_dir()
    with pytest.raises(CircuitsError, match=r"evaluation\.partial.* with other "):
        everything(*given, path, ablation="zero")
    assert path.is_dir(), "a refusal leaves what others may go on from"
    with pytest.MonkeyPatch.context() as counting:
        second = stop_after(counting, 999, MEASURE)
        again = everything(*given, path)
    assert again == whole and not path.exists()
    assert first + second == every and len(first) == batches < len(every)


def test_cross_evaluation_goes_on_too(hooked, random_pairs, tmp_path):
    model, pairs, path = hooked("gpt2"), random_pairs(n=5), tmp_path / "comparison.partial"
    scores = attribute(model, random_pairs(n=4, seed=1))
    given = {"a": select(scores, size=40), "b": select(scores, size=80)}

    def cross_evaluated():
        with Pieces(path) as resume:
            return cross_evaluate(
                {"a": model, "b": lambda: model},
                given,
                pairs,
                n_resamples=100,
                options=RunOptions(batch_size=1),
                resume=resume,
            )

    whole = cross_evaluated()
    with pytest.MonkeyPatch.context() as half_way:
        first = stop_after(half_way, 7, MEASURE)
        with pytest.raises(Stopped):
            cross_evaluated()
    with pytest.MonkeyPatch.context() as counting:
        second = stop_after(counting, 99, MEASURE)
        assert cross_evaluated() == whole
    assert (len(first), len(second)) == (7, 3)


@pytest.mark.parametrize("batches", [1, 3])
def test_a_diff_of_models_goes_on_too(batches, hooked, random_pairs, tmp_path):
    model, base = hooked("llama"), hooked("qwen2")
    pairs, path = random_pairs(n=5), tmp_path / "model_diff.partial"
    places = {"marks": [[1, 2]] * 5}

    def looked():
        with Pieces(path) as resume:
            settings = {"options": RunOptions(2), "key_positions": places, "n_resamples": 100}
            diff = diff_models(model, base, pairs, resume=resume, **settings)
        return diff.model_dump_json()

    whole = looked()
    with pytest.MonkeyPatch.context() as half_way:
        first = stop_after(half_way, batches, DOCUMENTS)
        with pytest.raises(Stopped):
            looked()
    with pytest.MonkeyPatch.context() as counting:
        second = stop_after(counting, 99, DOCUMENTS)
        assert looked() == whole
    assert (len(first), len(second)) == (batches, 4 - batches)
    assert not path.exists()


def test_trajectories_of_hidden_states_go_on_too(hooked, random_pairs, tmp_path):
    models = {"a": lambda: hooked("llama"), "b": lambda: hooked("mistral")}
    pairs, path = random_pairs(n=5), tmp_path / "model_diff.partial"

    def walked():
        with Pieces(path) as resume:
            return checkpoint_states(models, pairs, options=RunOptions(2), resume=resume).states

    whole = walked()
    with pytest.MonkeyPatch.context() as half_way:
        first = stop_after(half_way, 4, HIDDEN)
        with pytest.raises(Stopped):
            walked()
    with pytest.MonkeyPatch.context() as counting:
        second = stop_after(counting, 99, HIDDEN)
        assert torch.equal(walked(), whole)
    assert (len(first), len(second)) == (4, 2) and float(whole.abs().max()) > 0


def test_sums_that_hold_half_a_batch_are_not_kept(tmp_path):
    resume, total = PartialResults(tmp_path / NAME), torch.zeros(1)
    with pytest.raises(Stopped), resume:
        resume.load(2, {})
        with resume.taking(torch.tensor([0])):
            total += 1
            resume.hold({"total": total})
        resume.write()
        with resume.taking(torch.tensor([1])):
            total += 5
            raise Stopped
    again = PartialResults(tmp_path / NAME)
    assert again.load(2, {})["total"].tolist() == [1.0]
    assert again.done.tolist() == [True, False]


def test_values_are_pieces_too(tmp_path):
    path, made = tmp_path / "new" / "pieces", []

    def work(value):
        made.append(value)
        return value

    with pytest.raises(Stopped), Pieces(path) as pieces:
        assert pieces.value({"a": 1}, lambda: work([1])) == [1]
        raise Stopped
    with pytest.raises(CircuitsError, match="pieces: holds unfinished work with other settings"):
        Pieces(path).value({"a": 2}, lambda: work([2]))
    with Pieces(path) as pieces:
        assert pieces.value({"a": 1}, lambda: work([1])) == [1]
        assert pieces.value({"b": 1}, lambda: work([3])) == [3]
    assert made == [[1], [3]] and not path.exists()
    fresh = tmp_path / "fresh" / "pieces"
    with pytest.raises(CircuitsError, match="no"), Pieces(fresh) as pieces:
        pieces.value({}, lambda: work([4]))
        raise CircuitsError("no")
    assert not fresh.parent.exists(), "a refusal leaves nothing of its own"


def test_other_work_is_refused_with_what_is_other(hooked, random_pairs, tmp_path):
    model, pairs, path = hooked("gpt2"), random_pairs(n=7), tmp_path / NAME
    stopped_half_way(model, pairs, path)
    kept = path.read_bytes()
    with pytest.raises(CircuitsError, match=r"scores\.partial.* with other settings;"):
        scored(model, pairs, path, steps=3)
    with pytest.raises(CircuitsError, match="with other data, pairs;"):
        scored(model, random_pairs(n=7, seed=1), path)
    with pytest.raises(CircuitsError, match="with other model, shape;"):
        scored(hooked("llama"), pairs, path)
    assert path.read_bytes() == kept


def test_other_work_is_begun_anew_where_that_is_asked_for(hooked, random_pairs, tmp_path, caplog):
    model, pairs, path = hooked("gpt2"), random_pairs(n=7), tmp_path / NAME
    stopped_half_way(model, pairs, path)
    caplog.set_level(logging.INFO)
    with PartialResults(path, replace=True) as resume:
        anew = attribute(model, pairs, options=RunOptions(2), steps=3, resume=resume)
    assert "of work with other settings; starting over" in caplog.text
    assert torch.equal(anew.matrix, attribute(model, pairs, options=RunOptions(2), steps=3).matrix)


def test_a_broken_file_is_named(hooked, random_pairs, tmp_path):
    path = tmp_path / NAME
    path.write_bytes(b"no tensors")
    with pytest.raises(CircuitsError, match=r"scores\.partial: cannot be read .*remove it"):
        scored(hooked("gpt2"), random_pairs(n=2), path)


def test_it_is_written_when_it_is_time(tmp_path, monkeypatch):
    """A process that is killed outright leaves what was written last."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    path, filled = tmp_path / NAME, torch.zeros(3)
    resume = PartialResults(path)
    resume.restore(3, {"what": "a test"}, {"filled": filled})
    for place, now in enumerate((10.0, 40.0, 50.0)):
        clock[0] = now
        filled[place] = 1 + place
        resume.keep(torch.tensor([place]))
        assert path.exists() == (place > 0)
    again, found = PartialResults(path), torch.zeros(3)
    again.restore(3, {"what": "a test"}, {"filled": found})
    assert found.tolist() == [1, 2, 0]
    assert again.done.tolist() == [True, True, False]


def test_work_of_a_version_that_kept_less_is_refused(tmp_path):
    path, identity = tmp_path / NAME, {"what": "a test"}
    earlier = PartialResults(path)
    earlier.restore(2, identity, {"filled": torch.ones(2)})
    earlier.keep(torch.tensor([0]))
    earlier.write()
    tensors = {"filled": torch.zeros(2), "presence": torch.zeros(1)}
    with pytest.raises(CircuitsError, match=rf"{path}: an earlier version .* nothing of presence"):
        PartialResults(path).restore(2, identity, tensors)
