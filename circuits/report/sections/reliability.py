"""How many examples does it take?"""

from __future__ import annotations

from collections.abc import Iterator

from circuits.evaluation import Reliability
from circuits.format import count, estimate, percent
from circuits.graph.findings import MOST
from circuits.plot.figures.reliability import likeness_by_examples
from circuits.report.blocks import Block, Figure, Heading, Method, Table
from circuits.report.run import Run
from circuits.runs import MissingResultError


def examples(run: Run) -> Iterator[Block]:
    """Reliability of scores and circuits at the examples there were, and at more of them."""
    yield Heading("How many examples does it take?")
    found = {
        name: one.reliability
        for name, one in run.evaluation.checkpoints.items()
        if one.reliability is not None
    }
    if not found:
        raise MissingResultError("evaluation.json holds no reliability.")
    *_, (latest, last) = found.items()
    yield Figure(
        caption=f"Jaccard index of circuits of {count(last.size)} {last.level}s from two disjoint "
        f"sets of so many examples. Marker: of as many as the scores come from (n = "
        f"{count(last.n)}), with its 95 % interval; elsewhere extrapolated. Dashed: "
        f"{last.target:g}.",
        views={name: likeness_by_examples(one) for name, one in found.items()},
        height=320,
        method=Method(
            steps=(
                "Circuits of random disjoint halves are chosen by the run's own strategy and size. "
                "What their means and standard errors say that circuits share is scaled to what "
                "halves do share; then the errors fall with the root of the number of examples.",
                "Reliability is the correlation of mean scores over edges with those of as many "
                "other examples, by Spearman and Brown's formula. The error of sampling is the L1 "
                "error of mean scores over the L1 norm of the true ones. Intervals: delete-a-block "
                "jackknife.",
            ),
            settings={"target": last.target, "strategy": last.strategy, "ranking": last.ranking},
            source="Spearman (1910); Brown (1910). The bar of .8: arXiv:2510.00845.",
        ),
        chosen=latest,
    )
    yield Table(
        caption=f"How far scores and circuits depend on the examples, and how many it takes for "
        f"circuits to share {last.target:g}.",
        head=["checkpoint", "n", "reliability", "error of sampling", "Jaccard", "examples needed"],
        views={
            "": [
                [
                    name,
                    count(one.n),
                    estimate(one.scores, 2),
                    f"{percent(one.sampling_error.value)} [{percent(one.sampling_error.low)}, "
                    f"{percent(one.sampling_error.high)}]",
                    estimate(one.likeness, 2),
                    _needed(one),
                ]
                for name, one in found.items()
            ]
        },
    )


def _needed(one: Reliability) -> str:
    if one.needed is None:
        return "cannot be told"
    if one.needed.value >= MOST:
        return f"more than {count(MOST)}"
    return f"{count(one.needed.value)} [{count(one.needed.low)}, {count(one.needed.high)}]"
