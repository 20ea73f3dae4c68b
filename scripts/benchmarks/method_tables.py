"""The tables of methods.py: one over all tasks of a model, and one for each model and task."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean

from method_cells import RANKINGS, Cell
from method_rows import BASE

from circuits.statistics.estimate import Estimate

sys.path.append(str(Path(__file__).parents[1]))
from studies import table

NOT_RUN = "-"
OVERVIEW = (
    *("method", "tasks", "CPR", "higher, lower in", "CMD", "lower, higher in"),
    *("off 1 at 1 %: signed", "absolute", "mixed"),
    *("accuracy there: signed", "absolute", "mixed", "halves", "time"),
)
DETAIL = (
    *("method", "CPR", "less EAP-IG's", "CMD", "less EAP-IG's"),
    *("f at 1 %: signed", "absolute", "mixed", "on paths", "halves", "time"),
)


def line_of(cell: Cell, base: Cell) -> str:
    """What a cell says, in a line."""
    start = f"{cell.model} {cell.task} {cell.method}:"
    if cell.refused:
        return f"{start} {cell.refused}"
    figures = cell.figures()
    return f"{start} CPR {figures.cpr}, CMD {figures.cmd}, time {time_of(cell, base):.2f}"


def tables(cells: Sequence[Cell]) -> list[str]:
    """All tables, each under its heading; what a method said when it refused is below them."""
    parts = []
    for model, of_model in groupby(cells, key=lambda cell: cell.model):
        model_cells = list(of_model)
        parts.append(f"## {model}\n\n{overview(model_cells)}")
        for task, of_task in groupby(model_cells, key=lambda cell: cell.task):
            parts.append(f"### {model}, {task}\n\n{detail(list(of_task))}")
    reasons = dict.fromkeys(f"{cell.method}: {cell.refused}" for cell in cells if cell.refused)
    return [*parts, "\n".join(f"- {reason}" for reason in reasons)]


def overview(cells: Sequence[Cell]) -> str:
    """A row a method. Areas of others than EAP-IG are differences from it, means over the tasks
    that the method was run on; beside them, in how many of these the paired interval leaves out 0.
    """
    bases = {cell.task: cell for cell in cells if cell.method == BASE}
    by_method: dict[str, list[Cell]] = {}
    for cell in cells:
        if not cell.refused and cell.task in bases:
            by_method.setdefault(cell.method, []).append(cell)
    return table(OVERVIEW, [_over_tasks(rows, bases) for rows in by_method.values()])


def _over_tasks(cells: Sequence[Cell], bases: dict[str, Cell]) -> list[str]:
    figures = [cell.figures() for cell in cells]
    row = [cells[0].method, str(len(cells))]
    if cells[0].method == BASE:
        areas = (mean(f.cpr.value for f in figures), mean(f.cmd.value for f in figures))
        row += [short(areas[0]), "", short(areas[1], 3), ""]
    else:
        cpr, cmd = zip(*(cell.less(bases[cell.task]) for cell in cells), strict=True)
        row += [_signed(mean(d.value for d in cpr)), _counts(cpr, 1)]
        row += [_signed(mean(d.value for d in cmd), 3), _counts(cmd, -1)]
    row += [short(mean(abs(1 - f.f[name][0].value) for f in figures)) for name in RANKINGS]
    row += [short(mean(f.accuracy[name][0].value for f in figures)) for name in RANKINGS]
    halves = [cell.halves.value for cell in cells if cell.halves is not None]
    ratios = [time_of(cell, bases[cell.task]) for cell in cells]
    return [*row, short(mean(halves)) if halves else NOT_RUN, _range(ratios)]


def _counts(differences: Iterable[Estimate], better: int) -> str:
    """In how many tasks a difference is told from 0, on the better side and on the other."""
    signs = [math.copysign(1, d.value) for d in differences if d.excludes_zero]
    return f"{signs.count(better)}, {signs.count(-better)}"


def detail(cells: Sequence[Cell]) -> str:
    """A row a method, with intervals over the pairs; accuracy of the circuit in brackets."""
    base = next((cell for cell in cells if cell.method == BASE), None)
    rows = []
    for cell in cells:
        if cell.refused:
            rows.append([cell.method, "refused", *[""] * (len(DETAIL) - 2)])
            continue
        figures = cell.figures()
        cpr, cmd = "", ""
        if base is not None and base is not cell:
            differences = cell.less(base)
            cpr, cmd = told(differences[0]), told(differences[1], 3)
        rows.append(
            [
                *(cell.method, told(figures.cpr), cpr, told(figures.cmd, 3), cmd),
                *(
                    f"{told(figures.f[name][0])} ({short(figures.accuracy[name][0].value)})"
                    for name in RANKINGS
                ),
                str(cell.on_paths),
                NOT_RUN if cell.halves is None else short(cell.halves.value),
                NOT_RUN if base is None else short(time_of(cell, base)),
            ]
        )
    return table(DETAIL, rows)


def time_of(cell: Cell, base: Cell) -> float:
    """In units of EAP-IG's on the same pairs."""
    return cell.seconds / base.seconds


def told(estimate: Estimate, digits: int = 2) -> str:
    """A figure with its interval."""
    value, low, high = (short(x, digits) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def short(value: float, digits: int = 2) -> str:
    """So many digits behind the point, no zero before it, and no minus before zero."""
    rounded = round(value, digits) + 0.0
    text = f"{rounded:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(rounded) < 1 else text


def _signed(value: float, digits: int = 2) -> str:
    text = short(value, digits)
    return f"+{text}" if round(value, digits) > 0 else text


def _range(values: Sequence[float]) -> str:
    low, high = short(min(values), 1), short(max(values), 1)
    return low if low == high else f"{low}-{high}"
