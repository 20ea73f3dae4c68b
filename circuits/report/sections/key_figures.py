"""The figures that a reader wants first, large."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from circuits.evaluation import CircuitSummary, Faithfulness, SummaryQuality
from circuits.format import count, counted, interval, percent, signed
from circuits.report.blocks import Block, StatCard, StatCards
from circuits.report.run import Run
from circuits.runs import MissingResultError


def tiles(run: Run) -> Iterator[Block]:
    """A row of large numbers."""
    makers = (_quality_tile, _size_tile, _faithfulness_tile, _area_tile)
    cards = [tile for make in makers if (tile := _or_none(make, run)) is not None]
    if cards:
        yield StatCards(cards)


def _or_none(make: Callable[[Run], StatCard], run: Run) -> StatCard | None:
    try:
        return make(run)
    except MissingResultError:
        return None


def _quality_tile(run: Run) -> StatCard:
    first, last = ends_of_quality(run)
    return StatCard(
        f"{signed(first.rougeL.value, 2)} → {signed(last.rougeL.value, 2)}",
        f"ROUGE-L of the {run.nouns.answers}",
        f"{' to '.join(run.first_last)}, n = {counted(last.n, run.nouns.example)}",
    )


def _size_tile(run: Run) -> StatCard:
    circuit = run.evaluation.last.circuit
    return StatCard(
        percent(circuit.fraction),
        f"of the {circuit.level}s: the circuit of {run.first_last[1]}",
        size_of(circuit),
    )


def _faithfulness_tile(run: Run) -> StatCard:
    f = run.evaluation.last.circuit.faithfulness
    if f is None:
        raise MissingResultError("the last circuit has no faithfulness.")
    return StatCard(
        signed(f.value, 2),
        "of the behaviour kept by that circuit (f)",
        f"95 % interval {interval(f, 2)}, n = {count(f.n)}",
    )


def _area_tile(run: Run) -> StatCard:
    faithfulness = last_curves(run)
    random = faithfulness.curves.get("random")
    return StatCard(
        signed(faithfulness.cpr.value, 2),
        f"CPR of {run.first_last[1]}",
        interval(faithfulness.cpr, 2)
        + (f"; random ranking {signed(random.area_f.value, 2)}" if random else ""),
    )


def ends_of_quality(run: Run) -> tuple[SummaryQuality, SummaryQuality]:
    """How good the answers of the first and of the last checkpoint are."""
    quality = run.evaluation.quality
    if not quality:
        raise MissingResultError("evaluation.json holds no quality.")
    first, last = run.first_last
    return quality[first], quality[last]


def last_curves(run: Run) -> Faithfulness:
    """The faithfulness of the last checkpoint, where it is defined."""
    faithfulness = run.evaluation.last.curves
    if faithfulness is None:
        raise MissingResultError(f"faithfulness is undefined in {run.first_last[1]}.")
    return faithfulness


def size_of(circuit: CircuitSummary) -> str:
    """How many edges (nodes, neurons) a circuit has, and how many nodes."""
    nodes = f", {counted(circuit.n_nodes, 'node')}" if circuit.level != "node" else ""
    return f"{counted(circuit.size, circuit.level)}{nodes}"
