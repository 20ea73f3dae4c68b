"""Rows that go to disk as they come: none that counts is torn, and what is spoiled is found."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import killing
import pytest
import torch
from safetensors.torch import save_file

from circuits.attribution import attribute
from circuits.errors import CircuitsError
from circuits.options.engine import RayEngine
from circuits.options.run import RunOptions
from circuits.runtime import batching, example_rows, mapped
from circuits.runtime.example_rows import ExampleRows
from circuits.runtime.hands import InProcess
from circuits.runtime.resume import NAME, PartialResults
from circuits.runtime.shared_rows import SharedRows

SHAPE = (3, 5)
ROWS = torch.arange(60.0).view(4, *SHAPE)


class Died(BaseException):
    """As a kill: no Exception, and nothing is written any more."""


def begun(folder, done=2):
    """Some rows that count, as a process leaves them that is killed in the midst of the next."""
    resume = PartialResults(folder / NAME)
    rows = ExampleRows(resume.rows_path, 4, SHAPE)
    resume.restore(4, {"what": "a test"}, {}, rows)
    for place in range(done):
        rows.put(torch.tensor([place]), ROWS[place : place + 1])
        resume.keep(torch.tensor([place]))
    resume.write()
    with pytest.MonkeyPatch.context() as dying:
        whole = os.pwrite

        def torn(handle, content, at):
            whole(handle, content[:25], at)
            raise Died

        dying.setattr(os, "pwrite", torn)
        with pytest.raises(Died):
            rows.put(torch.tensor([done]), 1 + ROWS[done : done + 1])
    rows.close(remove=False)
    return resume.rows_path


def gone_on(folder):
    with PartialResults(folder / NAME) as resume:
        rows = ExampleRows(resume.rows_path, 4, SHAPE)
        resume.restore(4, {"what": "a test"}, {}, rows)
        left = (~resume.done).nonzero().flatten()
        rows.put(left, ROWS[left])
        resume.keep(left)
        return left.tolist(), rows.first(4)


def test_a_torn_row_does_not_count(tmp_path):
    begun(tmp_path)
    left, found = gone_on(tmp_path)
    assert left == [2, 3] and torch.equal(found, ROWS)
    assert not list(tmp_path.iterdir()), "both files go, and the rows stay for who holds them"
    assert torch.equal(found, ROWS)


def test_rows_without_a_word_of_what_counts_are_begun_anew(tmp_path):
    begun(tmp_path)
    (tmp_path / NAME).unlink()
    left, found = gone_on(tmp_path)
    assert left == [0, 1, 2, 3] and torch.equal(found, ROWS)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: os.truncate(path, 100), "100 bytes, where 240 were written"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: flip(path, 70), "example 2 is not as it was written"),
    ],
)
def test_what_is_spoiled_is_refused_in_a_line(spoil, message, tmp_path):
    spoil(begun(tmp_path))
    with pytest.raises(CircuitsError, match=message) as refused:
        gone_on(tmp_path)
    assert "scores.partial.rows" in str(refused.value) and "\n" not in str(refused.value)
    assert (tmp_path / NAME).exists(), "nothing is removed unasked"


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_full_disk_is_a_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(CircuitsError, match=r"rows: cannot be written \(No space left on device\)"):
        gone_on(tmp_path)
    assert not list(tmp_path.iterdir()), "rows that nothing counts are not left behind"


def test_scores_on_disk_are_those_in_memory(hooked, random_pairs, tmp_path):
    model, pairs = hooked("gpt2"), random_pairs(n=5)
    how = {"options": RunOptions(2), "per_example": True}
    attribute(model, pairs, **how).save(tmp_path / "memory")
    with PartialResults(tmp_path / NAME) as resume:
        attribute(model, pairs, resume=resume, **how).save(tmp_path / "disk")
    first, second = (
        (tmp_path / side / "scores.safetensors").read_bytes() for side in ("memory", "disk")
    )
    assert first == second and len(first) > 5 * 4 * torch.Size(model.layout.shape).numel()


@pytest.mark.parametrize("block", [7, 2**23])
def test_files_are_laid_out_as_safetensors_does_it(block, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "BLOCK", block)
    made = {"scores": ROWS[0], "per_example": ROWS.clone(), "empty": torch.zeros(0, 3)}
    save_file(made, tmp_path / "theirs")
    mapped.write_tensors(tmp_path / "ours", made)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    found = mapped.mapped(tmp_path / "ours", *mapped.place_of(tmp_path / "ours", "per_example"))
    for _ in range(2):
        assert torch.equal(
            torch.cat([part for _, part in mapped.columns(found)], 1).view(ROWS.shape), ROWS
        )
        mapped.let_go(found)
    found += 1  # never in the file, and not to be lost
    mapped.let_go(found)
    assert torch.equal(found, ROWS + 1)


def test_by_default_a_share_of_the_free_disk_is_taken(
    hooked, random_pairs, tmp_path, monkeypatch, caplog
):
    model, pairs = hooked("gpt2"), random_pairs(n=3)
    size = 4 * 3 * torch.Size(model.layout.shape).numel()
    monkeypatch.setattr("circuits.attribution.dataset_scores.KEPT_BYTES", size - 1)

    def kept(free, **how):
        monkeypatch.setattr("circuits.attribution.dataset_scores.room", lambda _: free)
        with PartialResults(tmp_path / NAME) as resume:
            return attribute(model, pairs, "eap", resume=resume, **how).per_example is not None

    assert kept(4 * size)
    assert not kept(4 * size - 4)
    assert "more than a quarter of the 0.0 GiB free on disk" in caplog.text
    assert kept(2 * size, per_example=True)
    with pytest.raises(CircuitsError, match=r"rows: the scores of single examples take .*no-per"):
        kept(2 * size - 1, per_example=True)


def test_what_was_begun_goes_on_with_less_room(tmp_path, monkeypatch):
    begun(tmp_path)
    resume = PartialResults(tmp_path / NAME)
    assert resume.recorded("what") == "a test" and resume.recorded("other") is None
    assert PartialResults(tmp_path / "none").recorded("what") is None
    monkeypatch.setattr(example_rows.shutil, "disk_usage", lambda _: type("Disk", (), {"free": 7}))
    assert example_rows.room(resume.rows_path) > 7
    assert example_rows.room(tmp_path / "no" / "such") == 7


@pytest.mark.exhaustive
def test_killed_in_the_midst_of_writing(tmp_path):
    worker = Path(__file__).with_name("rows_worker.py")
    killing.run(worker, tmp_path, said=tmp_path / "said.txt")
    whole = (tmp_path / "whole" / "scores.safetensors").read_bytes()
    killed = json.loads((tmp_path / "killed.json").read_text())
    assert len(killed) == 3 and sum(left < 12 for left in killed.values()) >= 2
    for folder in killed:
        assert (tmp_path / folder / "scores.safetensors").read_bytes() == whole, folder
        assert not list((tmp_path / folder).glob("scores.partial*"))


def test_another_process_writes_its_rows_where_it_sees_the_file(tmp_path):
    with PartialResults(tmp_path / NAME) as resume:
        rows = ExampleRows(resume.rows_path, 4, SHAPE)
        resume.restore(4, {"what": "a test"}, {}, rows)
        there = pickle.loads(pickle.dumps(rows.shared()))
        for places in ([3, 1], [0, 2]):
            place = torch.tensor(places)
            rows.take_in(place, there.put(place, ROWS[place]))
            resume.keep(place)
        assert torch.equal(rows.first(4), ROWS) and there.path.is_absolute()
        resume.write()
        again = ExampleRows(resume.rows_path, 4, SHAPE)
        resume.restore(4, {"what": "a test"}, {}, again)  # by checksums
        elsewhere = replace(there, path=tmp_path / "elsewhere" / there.path.name)
        elsewhere.path.parent.mkdir()
        assert elsewhere.put(place, ROWS[place]) is None, "no such file"
        elsewhere.path.write_bytes(there.path.read_bytes())
        assert elsewhere.put(place, 1 + ROWS[place]) is None, "another machine's, of that name"
        assert replace(there, word="another").put(place, 1 + ROWS[place]) is None
        assert torch.equal(rows.first(4), ROWS)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["elsewhere"]


def test_who_is_left_over_from_earlier_work_spoils_nothing(tmp_path):
    path, place = tmp_path / "rows", torch.tensor([1])
    earlier = ExampleRows(path, 4, SHAPE)
    left_over = earlier.shared()
    held = os.open(path, os.O_RDWR)
    later = ExampleRows(path, 4, SHAPE)
    later.put(place, ROWS[1:2])
    os.pwrite(held, bytes(240), 0)  # between looking at the word and writing
    assert left_over.put(place, 1 + ROWS[1:2]) is None
    assert torch.equal(later.first(4)[1], ROWS[1]) and not later.first(4)[2].any()
    for one in (earlier, later):
        one.close(remove=True)
    os.close(held)


def test_what_does_not_show_here_is_refused(tmp_path):
    rows = ExampleRows(tmp_path / "rows", 4, SHAPE)
    rows.shared()
    with pytest.raises(CircuitsError, match="does not show here; write to a disk that all workers"):
        rows.take_in(torch.tensor([2]), torch.tensor([7]))
    rows.close(remove=True)


@pytest.mark.parametrize("sees", [True, False])
def test_workers_that_see_the_disk_hand_on_sums_alone(
    sees, hooked, random_pairs, tmp_path, monkeypatch
):
    """The files have the bytes of one process, whoever wrote the rows."""
    model, pairs, handed = hooked("gpt2"), random_pairs(n=5), []

    class Elsewhere(InProcess):
        def __init__(self, model, work):
            def done(model, batch):
                handed.append(pickle.loads(pickle.dumps(work(model, batch))))
                return handed[-1]

            super().__init__(model, done)

    monkeypatch.setattr(batching, "hired", lambda _, model, work: Elsewhere(model, work))
    if not sees:
        monkeypatch.setattr(SharedRows, "put", lambda *_: None)
    for side, engine in (("one", None), ("many", RayEngine(workers=2))):
        options = RunOptions(2, engine=engine)
        with PartialResults(tmp_path / NAME) as resume:
            scores = attribute(model, pairs, options=options, resume=resume, per_example=True)
            scores.save(tmp_path / side)
    for name in ("scores.safetensors", "scores.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    assert len(handed) == 3
    for one in handed:
        assert (one.scores is None) == (one.checks is not None) == sees
        assert (one.total is not None and bool(one.total.any())) == sees
