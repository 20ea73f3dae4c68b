"""Reliability: how many examples does it take?"""

from __future__ import annotations

from collections.abc import Iterator

from circuits.evaluation import Reliability
from circuits.format import count, estimate, percent
from circuits.graph.findings import MOST
from circuits.plot.figures.reliability import jaccard_by_examples
from circuits.report.blocks import Block, Figure, Heading, Method, Table
from circuits.report.run import Run
from circuits.runs import MissingResultError


def examples(run: Run) -> Iterator[Block]:
    """Reliability of scores and circuits at the examples there were, and at more of them."""
    yield Heading("Reliability: how many examples does it take?")
    by_checkpoint = {
        name: checkpoint.reliability
        for name, checkpoint in run.evaluation.checkpoints.items()
        if checkpoint.reliability is not None
    }
    if not by_checkpoint:
        raise MissingResultError("evaluation.json holds no reliability.")
    *_, (latest, last) = by_checkpoint.items()
    yield Figure(
        caption=f"The Jaccard index of circuits of {count(last.size)} {last.level}s from two "
        "disjoint sets of examples, by the size of a set. The marker is at the number of "
        f"examples that the scores come from (n = {count(last.n)}), with its 95 % interval; "
        f"the line is extrapolated from there. Dashed: {last.target:g}.",
        views={
            name: jaccard_by_examples(reliability) for name, reliability in by_checkpoint.items()
        },
        height=320,
        method=Method(
            steps=(
                "Circuits of random disjoint halves are selected by the run's own strategy and "
                "size. The overlap that means and standard errors predict is scaled to the "
                "overlap of these halves. For other numbers of examples, the errors fall with "
                "the root of the number.",
                "Reliability is the correlation, over edges, of mean scores with those of as "
                "many other examples, by Spearman and Brown's formula. The sampling error is "
                "the L1 error of mean scores divided by the L1 norm of the true scores. "
                "Intervals come from a delete-a-block jackknife.",
            ),
            settings={"target": last.target, "strategy": last.strategy, "ranking": last.ranking},
            source="Spearman (1910); Brown (1910). The target of 0.8: arXiv:2510.00845.",
        ),
        chosen=latest,
    )
    yield Table(
        caption="How much scores and circuits depend on the examples, and how many examples two "
        f"circuits need to reach a Jaccard index of {last.target:g}.",
        head=["checkpoint", "n", "reliability", "sampling error", "Jaccard", "examples needed"],
        views={
            "": [
                [
                    name,
                    count(reliability.n),
                    estimate(reliability.scores, 2),
                    f"{percent(reliability.sampling_error.value)} "
                    f"[{percent(reliability.sampling_error.low)}, "
                    f"{percent(reliability.sampling_error.high)}]",
                    estimate(reliability.likeness, 2),
                    _needed(reliability),
                ]
                for name, reliability in by_checkpoint.items()
            ]
        },
    )


def _needed(reliability: Reliability) -> str:
    if reliability.needed is None:
        return "unknown"
    if reliability.needed.value >= MOST:
        return f"more than {count(MOST)}"
    return (
        f"{count(reliability.needed.value)} "
        f"[{count(reliability.needed.low)}, {count(reliability.needed.high)}]"
    )
