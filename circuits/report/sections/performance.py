"""Whether each checkpoint does the task: accuracy and metric, clean and corrupted."""

from __future__ import annotations

from collections.abc import Iterator

from circuits.evaluation import TaskPerformance
from circuits.format import count, estimate, signed
from circuits.report.blocks import Block, Method, Note, Table
from circuits.report.run import Run
from circuits.runs import MissingResultError


def accuracy(run: Run) -> Iterator[Block]:
    """A row a checkpoint, then what is doubtful."""
    found = {
        name: one.performance
        for name, one in run.evaluation.checkpoints.items()
        if one.performance is not None
    }
    if not found:
        raise MissingResultError("evaluation.json holds no performance: it was not measured.")
    first = next(iter(found.values()))
    yield Table(
        caption="Does the model do the task? "
        + ("Accuracy is of the right answer over the wrong one" if first.choice else _ARGMAX)
        + f", on the pairs that edges are scored on (n = {count(first.n)}), with 95 % intervals.",
        head=("", "accuracy", "corrupted", "chance", f"{first.metric}", "corrupted", "difference"),
        views={"": [_row(name, one) for name, one in found.items()]},
        method=Method(
            steps=(
                "Two forward passes a pair. Chance is a blind choice among a pair's right and "
                "wrong tokens, or, without wrong ones, the most frequent answer.",
                "Wilson's interval of a share of examples; bootstrap over examples elsewhere.",
            )
        ),
    )
    for name, one in found.items():
        for doubt in one.doubts:
            yield Note(f"Does {name} do the task? {doubt[0].upper()}{doubt[1:]}.")


_ARGMAX = "Accuracy is of the most likely token of the whole vocabulary"


def _row(name: str, one: TaskPerformance) -> list[str]:
    return [
        name,
        estimate(one.accuracy, 2),
        estimate(one.corrupted_accuracy, 2),
        signed(one.chance, 2),
        estimate(one.clean, 2),
        estimate(one.corrupted, 2),
        estimate(one.difference, 2),
    ]
