"""Would other examples have given the same circuit?"""

from __future__ import annotations

from collections.abc import Iterator

from circuits.format import count, estimate, percent
from circuits.report.blocks import Block, Figure, Heading, Method, Table
from circuits.report.figures.dots import Dot, Series, dot_panels, dots_height
from circuits.report.figures.stability import inclusion
from circuits.report.run import Run
from circuits.runs import MissingResultError


def resampling(run: Run) -> Iterator[Block]:
    """The circuit selected again from resamples."""
    yield Heading("Would other examples have given the same circuit?")
    found = {
        name: one["stability"] for name, one in run.checkpoints.items() if one.get("stability")
    }
    if not found:
        raise MissingResultError("evaluation.json holds no stability.")
    names = list(found)
    last = found[names[-1]]
    units = last["unit"]
    series = [
        Series(
            title,
            colour,
            [
                Dot(0, row, one[key]["value"], one[key]["low"], one[key]["high"])
                for row, one in enumerate(found.values())
            ],
            symbol,
            place,
            size,
        )
        for key, title, colour, symbol, place, size in (
            ("control", "random rankings (control)", "$control", "diamond", 0.26, 7),
            ("halves", "two disjoint halves", "$negative", "square", 0.06, 7),
            ("overlap", "a resample and the circuit", "$positive", "circle", -0.14, 9),
        )
    ]
    yield Figure(
        caption=f"Jaccard index of {units}: mean and central 95 % of "
        f"{count(last['n_resamples'])} draws of the examples that they were scored on, n = "
        f"{count(last['overlap']['n'])}. The likeness that as many new examples would give lies "
        "between blue and orange.",
        views={
            "": dot_panels(
                [f"{units} shared"],
                names,
                series,
                columns=1,
                title="Jaccard index",
                references=(0, 1),
                span=(-0.04, 1.04),
            )
        },
        height=dots_height(1, len(names), 1),
        method=Method(
            steps=(
                "Examples are drawn anew, mean scores formed again, and a circuit selected by the "
                "run's own rule and size. A bootstrap resample's likeness to the circuit is higher "
                "than that of new examples would be, since the circuit was picked by the examples "
                "that resamples are drawn from; that of two disjoint halves is lower, since each "
                "has half of the examples. As many new examples would give a likeness in between.",
            ),
            settings={"n_resamples": last["n_resamples"], "examples": last["overlap"]["n"]},
        ),
    )
    yield Figure(
        caption=f"How often each is selected, over {last['n_resamples']} resamples of "
        f"{last['overlap']['n']} examples; filled: {units} of the circuit. Dashed: one picked at "
        f"random, {percent(last['chance'])}.",
        views={name: inclusion(one) for name, one in found.items()},
        height=300,
        method=Method(
            steps=(
                "The share of the resamples' circuits that hold it. It is a statement of "
                "uncertainty over examples itself, and so has no interval.",
            ),
            settings={"n_resamples": last["n_resamples"]},
        ),
        chosen=names[-1],
    )
    yield Table(
        caption=f"{units.capitalize()} that at least 95 % of the resamples select are the "
        "circuit's core.",
        head=["checkpoint", units, "core", "n_resamples", "halves", "random"],
        views={
            "": [
                [
                    name,
                    count(len(one["circuit"])),
                    f"{count(one['core'])} "
                    f"({percent(one['core'] / max(len(one['circuit']), 1), 0)})",
                    *(estimate(one[key]) for key in ("overlap", "halves", "control")),
                ]
                for name, one in found.items()
            ]
        },
    )
