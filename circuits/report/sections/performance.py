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
    performances = {
        name: checkpoint.performance
        for name, checkpoint in run.evaluation.checkpoints.items()
        if checkpoint.performance is not None
    }
    if not performances:
        raise MissingResultError("evaluation.json holds no performance: it was not measured.")
    first = next(iter(performances.values()))
    yield Table(
        caption="Can the model do the task? "
        + (
            "Accuracy is the share of prompts where the right answer is more likely than the "
            "wrong one"
            if first.choice
            else _ARGMAX
        )
        + f", on the pairs that edges are scored on (n = {count(first.n)}), with 95 % intervals.",
        head=("", "accuracy", "corrupted", "chance", f"{first.metric}", "corrupted", "difference"),
        views={"": [_row(name, performance) for name, performance in performances.items()]},
        method=Method(
            steps=(
                "Each pair takes two forward passes. Chance is a blind choice among a pair's "
                "right and wrong tokens or, if there are no wrong ones, the most frequent "
                "answer.",
                "Shares of examples have Wilson's interval; the other figures have bootstrap "
                "intervals over examples.",
            )
        ),
    )
    for name, performance in performances.items():
        for doubt in performance.doubts:
            yield Note(f"Does {name} do the task? {doubt[0].upper()}{doubt[1:]}.")


_ARGMAX = (
    "Accuracy is the share of prompts where the right answer is the most likely token of the "
    "whole vocabulary"
)


def _row(name: str, performance: TaskPerformance) -> list[str]:
    return [
        name,
        estimate(performance.accuracy, 2),
        estimate(performance.corrupted_accuracy, 2),
        signed(performance.chance, 2),
        estimate(performance.clean, 2),
        estimate(performance.corrupted, 2),
        estimate(performance.difference, 2),
    ]
