"""Stability: would other examples give the same circuit?"""

from __future__ import annotations

from collections.abc import Iterator

from circuits.evaluation import Estimate, Stability
from circuits.format import count, estimate, percent
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels, dots_height
from circuits.plot.figures.stability import inclusion
from circuits.report.blocks import Block, Figure, Heading, Method, Table
from circuits.report.run import Run
from circuits.runs import MissingResultError


def resampling(run: Run) -> Iterator[Block]:
    """The circuit selected again from resamples."""
    yield Heading("Stability: would other examples give the same circuit?")
    by_checkpoint = {
        name: checkpoint.stability
        for name, checkpoint in run.evaluation.checkpoints.items()
        if checkpoint.stability is not None
    }
    if not by_checkpoint:
        raise MissingResultError("evaluation.json holds no stability.")
    names = list(by_checkpoint)
    last = by_checkpoint[names[-1]]
    level = last.level
    series = [
        Series(
            title,
            colour,
            [
                Dot.of(0, row, estimates[index])
                for row, estimates in enumerate(map(_figures, by_checkpoint.values()))
            ],
            symbol,
            offset,
            size,
        )
        for index, (title, colour, symbol, offset, size) in enumerate(
            (
                ("random rankings (control)", "$control", "diamond", 0.26, 7),
                ("two disjoint halves", "$negative", "square", 0.06, 7),
                ("a resample and the circuit", "$positive", "circle", -0.14, 9),
            )
        )
    ]
    yield Figure(
        caption=f"The Jaccard index of {level}s: mean and central 95 % over "
        f"{count(last.n_resamples)} draws of the examples that they were scored on, n = "
        f"{count(last.resample_jaccard.n)}. As many new examples would give an index between "
        "blue and orange.",
        views={
            "": dot_panels(
                [f"{level}s shared"],
                names,
                series,
                ValueAxis("Jaccard index", references=(0, 1), span=(-0.04, 1.04)),
                columns=1,
            )
        },
        height=dots_height(1, len(names), 1),
        method=Method(
            steps=(
                "Examples are drawn again, mean scores are computed again, and a circuit is "
                "selected by the run's own strategy and size. A bootstrap resample shares more "
                "with the circuit than new examples would, since the circuit was selected on "
                "the examples that resamples are drawn from. Two disjoint halves share less, "
                "since each has half of the examples. As many new examples would share an "
                "amount between the two.",
            ),
            settings={"resamples": last.n_resamples, "examples": last.resample_jaccard.n},
        ),
    )
    yield Figure(
        caption=f"How often each {level} is selected, over {last.n_resamples} resamples of "
        f"{last.resample_jaccard.n} examples. Filled dots are {level}s of the circuit. "
        f"Dashed line: any {level}, picked at random: {percent(last.chance)}.",
        views={name: inclusion(stability) for name, stability in by_checkpoint.items()},
        height=300,
        method=Method(
            steps=(
                f"The share of resamples whose circuit contains the {level}. It has no interval, "
                "since it is itself a statement of uncertainty over examples.",
            ),
            settings={"resamples": last.n_resamples},
        ),
        chosen=names[-1],
    )
    yield Table(
        caption=f"Stable {level}s of the circuit: at least 95 % of the resamples select them. "
        "The last three columns are the Jaccard indices of the figure.",
        head=["checkpoint", f"{level}s", "stable", "random", "halves", "resamples"],
        views={
            "": [
                [
                    name,
                    count(len(stability.circuit)),
                    f"{count(stability.n_stable)} "
                    f"({percent(stability.n_stable / max(len(stability.circuit), 1), 0)})",
                    *map(estimate, _figures(stability)),
                ]
                for name, stability in by_checkpoint.items()
            ]
        },
    )


def _figures(stability: Stability) -> tuple[Estimate, Estimate, Estimate]:
    """Jaccard indices of the control, of halves and of resamples."""
    return stability.control, stability.split_half_jaccard, stability.resample_jaccard
