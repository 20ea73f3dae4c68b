"""Does every edge of a circuit matter?"""

from __future__ import annotations

from collections.abc import Iterator

from circuits.evaluation import Undefined
from circuits.format import count, general, percent
from circuits.plot.figures.minimality import SHOWN, minimality_dots
from circuits.report.blocks import Block, Figure, Heading, Method, Note, Table
from circuits.report.run import Run
from circuits.report.sections.faithfulness import BOOTSTRAP


def drops(run: Run) -> Iterator[Block]:
    """What each edge is worth."""
    yield Heading("Minimality: does every part matter?")
    answers = {
        name: checkpoint.minimality
        for name, checkpoint in run.evaluation.checkpoints.items()
        if checkpoint.minimality is not None
    }
    if not answers:
        raise run.not_measured("minimality")
    defined = {
        name: answer for name, answer in answers.items() if not isinstance(answer, Undefined)
    }
    for name, answer in answers.items():
        if isinstance(answer, Undefined):
            yield Note(f"{name}, minimality: {answer.undefined_reason}")
    if not defined:
        return
    last = defined[list(defined)[-1]]
    level = last.level
    n_drops = max(len(minimality.drops) for minimality in defined.values())
    yield Figure(
        caption=f"The drop in f when one {level} alone is removed from the circuit, with 95 % "
            f"intervals. Filled dots: the interval excludes 0 (each {level} by itself, without "
            "correction for their number). Grey band: the central 95 % of the changes when a "
            f"random {level} from outside is added alone. n = {count(last.faithfulness.n)} "
            "examples."
        + (f" Only the {SHOWN} {level}s with the largest |drop| are shown."
           if n_drops > SHOWN else ""),
        views={name: minimality_dots(minimality) for name, minimality in defined.items()},
        height=430,
        method=Method(
            steps=(
                f"The circuit is run without the {level}; nothing else is changed. As a control, "
                f"{level}s from outside are added, each alone: this shows how large a change "
                "without meaning is.",
                BOOTSTRAP,
            ),
            formula="drop(x) = f(C) - f(C without x)",
            settings={
                "epsilon": last.epsilon,
                f"control {level}s": len(last.control),
                "examples": last.faithfulness.n,
            },
            source="Wang et al. (2022), Interpretability in the Wild, 4.2.",
        ),
        chosen=list(defined)[-1],
    )  # fmt: skip
    yield Table(
        caption=f"Redundant {level}s: removing one alone (in the control, adding it) changes f by "
        "less than epsilon.",
        head=[
            "checkpoint",
            f"{level}s",
            "redundant",
            f"control {level}s",
            "redundant in control",
            "epsilon",
        ],
        views={
            "": [
                [
                    name,
                    count(len(minimality.drops)),
                    percent(minimality.redundant_fraction, 0),
                    count(len(minimality.control)),
                    percent(minimality.control_redundant_fraction, 0),
                    general(minimality.epsilon),
                ]
                for name, minimality in defined.items()
            ]
        },
    )
