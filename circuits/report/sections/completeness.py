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
    asked = {
        name: one.completeness
        for name, one in run.evaluation.checkpoints.items()
        if one.completeness is not None
    }
    if not asked:
        raise run.not_measured("completeness")
    found = {name: one for name, one in asked.items() if not isinstance(one, Undefined)}
    for name, one in asked.items():
        if isinstance(one, Undefined):
            yield Note(f"{name}, completeness: {one.undefined_reason}")
    if not found:
        return
    last = found[list(found)[-1]]
    most = max(len(one.random) for one in found.values())  # a small circuit has fewer
    sets = [[*enumerate(one.random), (most, one.greedy)] for one in found.values()]
    names = [f"random {place + 1}" for place in range(most)] + ["greedy"]
    columns = balanced(list(found))
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
            place,
            size,
        )
        for of_set, title, colour, symbol, place, size in (
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
                list(found),
                names,
                series,
                ValueAxis(
                    "incompleteness (gap in f)", references=(0,), span=(-0.04, _reach(series))
                ),
                columns=columns,
                pixels=24,
            )
        },
        height=dots_height(len(found), len(names), columns, 24),
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
                    estimate(one.incompleteness),
                    estimate(one.control),
                    listed(one.greedy.components),
                    estimate(one.greedy.incompleteness),
                ]
                for name, one in found.items()
            ]
        },
    )


def _own(knockout: Knockout) -> Estimate:
    return knockout.incompleteness


def _control(knockout: Knockout) -> Estimate:
    return knockout.control


def _drawn(one: Completeness) -> str:
    n = len(one.random)
    if n == one.n_requested:
        return str(n)
    return f"{n} of {one.n_requested}: the circuit has no more of their sizes"


def _reach(series: list[Series]) -> float:
    ends = [float(dot.high or 0.0) for one in series for dot in one.dots]
    return min(HIGHEST, max([0.2, *ends]) + 0.04)
