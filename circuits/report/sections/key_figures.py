"""The figures that a reader wants first, large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from circuits.format import count, counted, interval, percent, signed
from circuits.report.blocks import Block, StatCard, StatCards
from circuits.report.run import UNSHOWABLE, Run
from circuits.runs import MissingResultError


def tiles(run: Run) -> Iterator[Block]:
    """A row of large numbers."""
    made = (_quality_tile, _size_tile, _faithfulness_tile, _area_tile)
    found = [tile for one in made if (tile := _or_none(one, run)) is not None]
    if found:
        yield StatCards(found)


def _or_none(made: Callable[[Run], StatCard], run: Run) -> StatCard | None:
    try:
        return made(run)
    except UNSHOWABLE:
        return None


def _quality_tile(run: Run) -> StatCard:
    first, last = (run.part("evaluation.json", "quality", name) for name in run.ends)
    return StatCard(
        f"{signed(first['rougeL'], 2)} → {signed(last['rougeL'], 2)}",
        f"ROUGE-L of the {run.words.answers}",
        f"{run.ends[0]} to {run.ends[1]}, n = {counted(last['n'], run.words.example)}",
    )


def _size_tile(run: Run) -> StatCard:
    circuit = last_checkpoint(run)["circuit"]
    return StatCard(
        percent(circuit["fraction"]),
        f"of the edges: the circuit of {run.ends[1]}",
        f"{count(circuit['edges'])} edges, {count(circuit['nodes'])} nodes",
    )


def _faithfulness_tile(run: Run) -> StatCard:
    kept = last_checkpoint(run)["circuit"].get("faithfulness")
    if kept is None:
        raise MissingResultError("the last circuit has no faithfulness.")
    return StatCard(
        signed(kept["value"], 2),
        "of the behaviour kept by that circuit (f)",
        f"95 % interval {interval(kept, 2)}, n = {count(kept['n'])}",
    )


def _area_tile(run: Run) -> StatCard:
    found = last_curves(run)
    random = found["curves"].get("random", {}).get("area")
    return StatCard(
        signed(found["cpr"]["value"], 2),
        f"CPR of {run.ends[1]}",
        f"{interval(found['cpr'], 2)}; random ranking {signed(random['value'], 2)}"
        if random
        else interval(found["cpr"], 2),
    )


def last_checkpoint(run: Run) -> dict[str, Any]:
    """The evaluation of the last checkpoint."""
    found: dict[str, Any] = run.part("evaluation.json", "checkpoints", run.ends[1])
    return found


def last_curves(run: Run) -> dict[str, Any]:
    """The faithfulness of the last checkpoint, where it is defined."""
    found: dict[str, Any] = last_checkpoint(run)["faithfulness"]
    if "curves" not in found:
        raise MissingResultError(f"faithfulness is undefined in {run.ends[1]}.")
    return found
