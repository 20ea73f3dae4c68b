"""The figures that a reader wants first, large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from circuits.report.blocks import Block, Tile, Tiles
from circuits.report.numbers import count, counted, interval, percent, signed
from circuits.report.run import UNSHOWABLE, AbsentError, Run


def tiles(run: Run) -> Iterator[Block]:
    """A row of large numbers."""
    made = (_quality_tile, _size_tile, _faithfulness_tile, _area_tile)
    found = [tile for one in made if (tile := _or_none(one, run)) is not None]
    if found:
        yield Tiles(found)


def _or_none(made: Callable[[Run], Tile], run: Run) -> Tile | None:
    try:
        return made(run)
    except UNSHOWABLE:
        return None


def _quality_tile(run: Run) -> Tile:
    first, last = (run.part("evaluation.json", "quality", name) for name in run.ends)
    return Tile(
        f"{signed(first['rougeL'], 2)} → {signed(last['rougeL'], 2)}",
        f"ROUGE-L of the {run.words.answers}",
        f"{run.ends[0]} to {run.ends[1]}, n = {counted(last['n'], run.words.example)}",
    )


def _size_tile(run: Run) -> Tile:
    circuit = last_checkpoint(run)["circuit"]
    return Tile(
        percent(circuit["share"]),
        f"of the edges: the circuit of {run.ends[1]}",
        f"{count(circuit['edges'])} edges, {count(circuit['nodes'])} nodes",
    )


def _faithfulness_tile(run: Run) -> Tile:
    kept = last_checkpoint(run)["circuit"].get("faithfulness")
    if kept is None:
        raise AbsentError("the last circuit has no faithfulness.")
    return Tile(
        signed(kept["value"], 2),
        "of the behaviour kept by that circuit (f)",
        f"95 % interval {interval(kept, 2)}, n = {count(kept['n'])}",
    )


def _area_tile(run: Run) -> Tile:
    found = last_curves(run)
    random = found["curves"].get("random", {}).get("area")
    return Tile(
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
        raise AbsentError(f"faithfulness is undefined in {run.ends[1]}.")
    return found
