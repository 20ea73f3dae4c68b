"""Does a circuit hold on other prompts?"""

from __future__ import annotations

from collections.abc import Iterator

from circuits.evaluation import Condition, Estimate
from circuits.format import count, estimate, general
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels, dots_height
from circuits.plot.figures.faithfulness import HIGHEST, LOWEST, clipped
from circuits.plot.figures.panels import balanced
from circuits.report.blocks import Block, Figure, Heading, Method, Note, Table
from circuits.report.run import Run
from circuits.report.sections.faithfulness import BOOTSTRAP, DEFINITION
from circuits.runs import MissingResultError

_CONDITIONS = {
    "evaluate": "evaluation set",
    "other-examples": "other examples",
    "longer": "a sentence more",
    "shorter": "a sentence less",
    "sentence-order": "sentence order",
}


def conditions(run: Run) -> Iterator[Block]:
    """The same circuit on other prompts."""
    yield Heading("Robustness: does the circuit work on other prompts?")
    by_checkpoint = {
        name: evaluation.robustness
        for name, evaluation in run.evaluation.checkpoints.items()
        if evaluation.robustness
    }
    if not by_checkpoint:
        raise MissingResultError("evaluation.json holds no robustness.")
    rows = list(
        dict.fromkeys(
            condition for robustness in by_checkpoint.values() for condition in robustness
        )
    )
    circuits, controls, notes = [], [], []
    values: dict[tuple[int, int], Estimate] = {}
    for panel, robustness in enumerate(by_checkpoint.values()):
        for row, name in enumerate(rows):
            condition = robustness.get(name)
            if condition is None or condition.circuit is None:
                notes.append((panel, row, "undefined" if condition else "not measured"))
                continue
            values[panel, row] = condition.circuit
            circuits.append(Dot.of(panel, row, condition.circuit))
            if condition.control is not None:
                controls.append(Dot.of(panel, row, condition.control))
    axis_values = [
        value for dot in (*circuits, *controls) for value in (dot.value, dot.low, dot.high)
        if value is not None
    ]  # fmt: skip
    span = (
        max(LOWEST, min([0.0, *axis_values]) - 0.08),
        min(HIGHEST, max([1.0, *axis_values]) + 0.08),
    )
    notes += [
        (*cell, f"circuit: {estimate(f, 1)}")
        for cell, f in values.items()
        if not span[0] <= f.value <= span[1]
    ]
    sizes = sorted(
        {
            condition.circuit.n
            for robustness in by_checkpoint.values()
            for condition in robustness.values()
            if condition.circuit is not None
        }
    )
    columns = balanced(list(by_checkpoint))
    yield Figure(
        caption="Blue: f of each checkpoint's circuit under other conditions (rows). Grey: a "
        "random circuit of its size. Intervals are 95 %, "
        f"n = {' to '.join(count(n) for n in (sizes[:1] + sizes[1:][-1:])) or '0'} examples. "
        "The evaluation set uses the task's own corruption." + clipped(axis_values),
        views={
            "": dot_panels(
                list(by_checkpoint),
                [_CONDITIONS.get(row, row) for row in rows],
                [
                    Series("random circuit (control)", "$control", controls, "diamond", 0.16, 7),
                    Series("circuit", "$positive", circuits, offset=-0.12),
                ],
                ValueAxis("faithfulness f", references=(0, 1), span=span),
                columns=columns,
                notes=notes,
            )
        },
        height=dots_height(len(by_checkpoint), len(rows), columns),
        method=Method(
            steps=(
                "The circuit stays as it was found and is run on other pairs. Each condition "
                "has its own clean and corrupted metric. Corruptions without a wrong answer use "
                "the log-probability of the reference.",
                "If the clean and the corrupted metric are equal, f is undefined.",
                BOOTSTRAP,
            ),
            formula=DEFINITION,
            settings={
                f"metric, {name}": condition.metric
                for name, condition in next(reversed(by_checkpoint.values())).items()
            },
        ),
    )
    last = list(by_checkpoint)[-1]
    yield Table(
        caption="The same in numbers, with the metric of each condition. If the clean and the "
        "corrupted metric are close, f divides by a small number and its interval is wide.",
        head=[
            "condition",
            "f of the circuit",
            "f of a random circuit",
            "accuracy of the circuit",
            "accuracy of the model",
            "metric",
            "clean",
            "corrupted",
        ],
        views={
            checkpoint: [
                [
                    _CONDITIONS.get(name, name),
                    estimate(condition.circuit),
                    estimate(condition.control),
                    *(estimate(right, 2) for right in _accuracies(condition)),
                    condition.metric,
                    general(condition.metric_clean),
                    general(condition.metric_corrupted),
                ]
                for name, condition in robustness.items()
            ]
            for checkpoint, robustness in by_checkpoint.items()
        },
        chosen=last,
    )
    for checkpoint, robustness in by_checkpoint.items():
        for name, condition in robustness.items():
            if condition.undefined_reason:
                yield Note(f"{checkpoint}, {name}: {condition.undefined_reason}")


def _accuracies(condition: Condition) -> tuple[Estimate | None, Estimate | None]:
    """How often the circuit and the model are right."""
    right = condition.accuracy
    return (None, None) if right is None else (right.circuit, right.model)
