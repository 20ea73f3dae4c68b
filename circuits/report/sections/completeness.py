"""Does a circuit hold all that matters?"""

from __future__ import annotations

from collections.abc import Iterator

from circuits.evaluation import Completeness, Estimate, Undefined
from circuits.evaluation.completeness import Knockout
from circuits.format import count, estimate, listed
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels, dots_height
from circuits.plot.figures.faithfulness import HIGHEST
from circuits.plot.figures.panels import balanced
from circuits.report.blocks import Block, Figure, Heading, Method, Note, Table
from circuits.report.run import Run
from circuits.report.sections.faithfulness import BOOTSTRAP


def gaps(run: Run) -> Iterator[Block]:
    """What knocking sets out of the circuit and out of the model does."""
    yield Heading("Completeness: does the circuit contain all that matters?")
    answers = {
        name: checkpoint.completeness
        for name, checkpoint in run.evaluation.checkpoints.items()
        if checkpoint.completeness is not None
    }
    if not answers:
        raise run.not_measured("completeness")
    defined = {
        name: answer for name, answer in answers.items() if not isinstance(answer, Undefined)
    }
    for name, answer in answers.items():
        if isinstance(answer, Undefined):
            yield Note(f"{name}, completeness: {answer.undefined_reason}")
    if not defined:
        return
    last = defined[list(defined)[-1]]
    n_random = max(len(answer.random) for answer in defined.values())  # a small circuit has fewer
    sets = [[*enumerate(answer.random), (n_random, answer.greedy)] for answer in defined.values()]
    names = [f"random {index + 1}" for index in range(n_random)] + ["greedy"]
    columns = balanced(list(defined))
    series = [
        Series(
            title,
            colour,
            [
                Dot.of(panel, row, of_set(knockout))
                for panel, knocked in enumerate(sets)
                for row, knockout in knocked
            ],
            symbol,
            offset,
            size,
        )
        for of_set, title, colour, symbol, offset, size in (
            (_control, "random circuit (control)", "$control", "diamond", 0.16, 7),
            (_own, "circuit", "$positive", "circle", -0.12, 9),
        )
    ]
    yield Figure(
        caption=f"How far circuit and model differ when a set of the circuit's {last.level}s is "
        "knocked out of both (one set a row), with 95 % intervals. At 0, nothing outside "
        "the circuit takes part. Grey: a random circuit with as many edges. n = "
        f"{count(last.incompleteness.n)} examples; the greedy set was searched on "
        f"{count(last.n_search_examples)} others.",
        views={
            "": dot_panels(
                list(defined),
                names,
                series,
                ValueAxis(
                    "incompleteness (gap in f)", references=(0,), span=(-0.04, _reach(series))
                ),
                columns=columns,
                pixels=24,
            )
        },
        height=dots_height(len(defined), len(names), columns, 24),
        method=Method(
            steps=(
                "A node is knocked out by removing everything that it writes. The sizes of "
                "random sets range from one node to half of the circuit's nodes, and no two "
                "sets are equal. The greedy set grows step by step: of a few random candidates, "
                "the one that widens the gap most is added, until none widens it. It is "
                "searched on other examples.",
                BOOTSTRAP,
            ),
            formula="incompleteness(K) = |f(C without K) - f(model without K)|",
            settings={"level": last.level, "random sets": _drawn(last)},
            source="Wang et al. (2022), Interpretability in the Wild, 4.1.",
        ),
    )
    yield Table(
        caption="The gaps, and the greedy set. A small mean shows that what the circuit leaves "
        "out is not needed, even when parts of the circuit are missing.",
        head=["checkpoint", "mean of random sets", "control", "greedy set", "its gap"],
        views={
            "": [
                [
                    name,
                    estimate(completeness.incompleteness),
                    estimate(completeness.control),
                    listed(completeness.greedy.components),
                    estimate(completeness.greedy.incompleteness),
                ]
                for name, completeness in defined.items()
            ]
        },
    )


def _own(knockout: Knockout) -> Estimate:
    return knockout.incompleteness


def _control(knockout: Knockout) -> Estimate:
    return knockout.control


def _drawn(completeness: Completeness) -> str:
    n = len(completeness.random)
    if n == completeness.n_requested:
        return str(n)
    return f"{n} of {completeness.n_requested}: the circuit has no more of their sizes"


def _reach(series: list[Series]) -> float:
    highs = [float(dot.high or 0.0) for dot_series in series for dot in dot_series.dots]
    return min(HIGHEST, max([0.2, *highs]) + 0.04)
