"""Bars of runs move within a batch, count every run once, and change nothing that is measured."""

from __future__ import annotations

import re

import pytest
import torch
from tqdm.auto import tqdm

from circuits.attribution import patch_edges
from circuits.evaluation.measure import measure
from circuits.graph import Circuit
from circuits.graph.controls import random_circuit
from circuits.intervention import CircuitRunner
from circuits.intervention.patching import PatchSpec, patch, path_patch
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.runtime.runs_bar import RunsBar

N = 4


@pytest.fixture
def moves(monkeypatch):
    """Where each bar stands after every move; a bar of RunsBar alone moves by `update`."""
    seen = []
    original = tqdm.update

    def update(bar, n=1):
        original(bar, n)
        if not bar.disable:
            seen.append((bar.n, bar.total))

    monkeypatch.setattr(tqdm, "update", update)
    return seen


def test_batches_add_up_and_one_that_is_halved_starts_anew(moves):
    with RunsBar("runs", examples=6, runs=10, done=2) as bar:
        bar.within(15)
        bar.within(5)  # halved: 20 runs of the batch have become 10 and 10
        bar.finish(1)
        bar.within(8)
        bar.finish(3)
    assert moves == [(35, 60), (25, 60), (30, 60), (38, 60), (60, 60)]


def test_without_a_title_nothing_is_written(moves, capsys):
    with RunsBar(None, examples=2, runs=3) as bar:
        bar.within(3)
        bar.finish(2)
    assert not moves and capsys.readouterr() == ("", "")


def circuits_of(model):
    half = Circuit.full(model.layout).with_only(Circuit.full(model.layout).candidates[::2])
    return [random_circuit(half, seed=seed) for seed in range(5)]


def _measured(model, pairs, options):
    found = measure(
        model,
        pairs,
        circuits_of(model),
        options=options,
        progress="circuits" if options.progress else None,
    )
    return found.columns


def _swept(model, pairs, options):
    return next(iter(patch(model, pairs, PatchSpec(site="z"), options=options).values.values()))


def _paths(model, pairs, options):
    names = ["input->a1.h0<q>", "a0.h1->a1.h0<v>", "m0->logits"]
    return next(iter(path_patch(model, pairs, names, options=options).values.values()))


def _edges(model, pairs, options):
    return patch_edges(model, pairs, ["input->m0", "m0->logits"], options=options).values


@pytest.mark.parametrize(
    ("work", "batches"), [(_measured, 2), (_measured, 1), (_swept, 1), (_paths, 1), (_edges, 1)]
)
def test_the_bar_moves_before_the_first_batch_ends(hooked, random_pairs, moves, work, batches):
    model, pairs = hooked("gpt2"), random_pairs(n=N)
    quiet = work(model, pairs, RunOptions(batch_size=N // batches, progress=False))
    assert not moves
    shown = work(model, pairs, RunOptions(batch_size=N // batches, progress=True))
    assert torch.equal(quiet, shown) and float(quiet.abs().max()) > 0
    places, totals = zip(*moves, strict=True)
    assert len({*totals}) == 1 and sorted(places) == list(places) and places[-1] == totals[0]
    first = totals[0] // batches
    assert any(0 < place < first for place in places) and first in places


def test_a_stopped_batch_goes_on_from_where_its_bar_stood(
    hooked, random_pairs, moves, tmp_path, monkeypatch
):
    model, pairs = hooked("gpt2"), random_pairs(n=N)
    circuits, original, left = circuits_of(model), CircuitRunner.logits, [3]

    def stopped(self, circuit):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(self, circuit)

    monkeypatch.setattr(CircuitRunner, "logits", stopped)
    with pytest.raises(KeyboardInterrupt), Pieces(tmp_path / "partial") as resume:
        measure(model, pairs, circuits, progress="circuits", resume=resume)
    stood = moves[-1]
    left[0] = len(circuits) - 3
    with Pieces(tmp_path / "partial") as resume:
        measure(model, pairs, circuits, progress="circuits", resume=resume)
    assert stood == (N * 5, N * 7) and stood in moves[len(moves) // 2 :]
    assert moves[-1] == (N * 7, N * 7) and left == [0]


def test_the_line_says_runs(hooked, random_pairs, capsys):
    _measured(hooked("gpt2"), random_pairs(n=N), RunOptions(batch_size=N, progress=True))
    assert re.search(r"circuits: 100%.*28/28 \[.*run", capsys.readouterr().err)
