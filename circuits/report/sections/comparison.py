"""What fine-tuning changed: nodes or edges, and which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from circuits.format import count, general, listed, p_value, percent, typeset
from circuits.report.blocks import Block, Details, Figure, Heading, Method, Table, Text
from circuits.report.figures.comparison import (
    LIKENESS,
    VARIANCE,
    likeness_dots,
    middle,
    title_of,
    turnover_bars,
    turnover_height,
    variance_dots,
)
from circuits.report.figures.dots import dots_height
from circuits.report.figures.panels import balanced
from circuits.report.run import Run
from circuits.runs import MissingResultError

_TOP = 12
_COVERAGE = "What these intervals cover on simulated and on real scores: docs/statistics.md."
_JACKKNIFE = "Shao and Wu (1989), A general theory for jackknife variance estimation."


def likeness(run: Run) -> Iterator[Block]:
    """How alike checkpoints are, beside how alike one is to itself."""
    found, chosen = _shown(run)
    columns = balanced([title_of(one) for one in chosen])
    size = middle(chosen[0]["sizes"])
    yield Figure(
        caption="Likeness of two checkpoints, blue, beside that of one checkpoint with itself, "
        "grey; both on disjoint halves of the examples. The interval is that of the difference to "
        "the grey mark: where it holds the mark, the two are as alike as "
        f"{count(found['examples'])} examples can tell. Shared edges and nodes: circuits of "
        f"{count(size['edges'])} edges ({percent(size['share'])}).",
        views={"": likeness_dots(chosen, columns)},
        height=dots_height(len(chosen), len(LIKENESS), columns, 30),
        method=Method(
            steps=(
                "Two checkpoints scored on the same examples share those examples' noise; hence "
                "both sides are measured across disjoint halves, many times. Circuits are the top "
                "edges by |score|, unpruned, equally many in each.",
                "Rank correlation is Spearman's, of |score|; the weighted overlap is the sum of "
                "the lesser over the sum of the larger |score|, each side scaled to a sum of 1.",
                "Intervals: delete-d jackknife, on random subsets of the examples.",
                _COVERAGE,
            ),
            formula="gap = likeness across checkpoints - likeness of one with itself",
            settings=_settings(found, "splits", "gap subsets", "gap splits"),
            source=_JACKKNIFE,
        ),
    )
    if found.get("paragraph"):
        yield Details("The comparison in full sentences", typeset(found["paragraph"]))


def turnover(run: Run) -> Iterator[Block]:
    """Nodes or edges?"""
    yield Heading("Nodes or edges?")
    found, chosen = _shown(run)
    columns = balanced([title_of(one) for one in chosen])
    yield Figure(
        caption="Edges in one circuit and not in the other, as a share of the edges in either, at "
        "several circuit sizes. Orange: a node at one end is absent from the other circuit. "
        "Blue: both nodes are in both circuits, so the edge was rewired. Pale bars: the same when "
        "the checkpoints' labels are swapped at random by example. Lines: the 95 % interval of the "
        "whole turnover; of the pale bars, its central 95 %. n = "
        f"{count(found['examples'])} examples.",
        views={"": turnover_bars(chosen, columns)},
        height=turnover_height(len(chosen), columns),
        method=Method(
            steps=(
                "Circuits are the top edges by |score| at each size. With growing size every node "
                "is in every circuit, and what turns over can only be rewired: read the bars "
                "beside the pale ones.",
                "Intervals: delete-d jackknife, on random halves of the examples.",
                _COVERAGE,
            ),
            formula="1 - Jaccard = share that went with a node + share rewired",
            settings=_settings(found, "halves", "label swaps"),
            source=_JACKKNIFE,
        ),
    )
    yield Figure(
        caption="Where the variance of the score change lies, over all edges, noise left out, with "
        "95 % intervals: in what sources send in total, in what readers receive in total, or in "
        "single edges beyond either. Grey: the same when the checkpoints' labels are swapped at "
        "random by example, mean and central 95 %. Test of no change at all: "
        + "; ".join(f"{title_of(one)} {p_value(one['variance']['p'])}" for one in chosen)
        + f". n = {count(found['examples'])} examples.",
        views={"": variance_dots(chosen, columns)},
        height=dots_height(len(chosen), len(VARIANCE), columns, 38),
        method=Method(
            steps=(
                "The change of every edge is modelled as a mean, an effect of its source, an "
                "effect of its reader, and a rest, by least squares. Had fine-tuning only turned "
                "nodes up and down, the first two would explain it; the rest is single edges "
                "rewired. Overlap between the two effects is shared evenly (Shapley value).",
                "Products of an example with itself are left out, which removes the variance that "
                "the mean of noisy scores adds. A share may pass 0 or 1 by its uncertainty.",
                "Intervals: Student's t with the unbiased variance of a U-statistic.",
                _COVERAGE,
            ),
            formula="change(u → v) = mean + source(u) + reader(v) + rest(u → v)",
            settings=_settings(found),
            source="Lindeman, Merenda and Gold (1980), for the shares; Hoeffding (1948), for the "
            "variance of a U-statistic.",
        ),
    )


def edges(run: Run) -> Iterator[Block]:
    """The edges that changed the most."""
    found = run.json("comparison.json")
    yield Heading("Edges and nodes that changed")
    overall = _overall(found)
    kinds = {"edges": "edges", "node totals": "totals", "node strengths": "nodes"}
    counts = {
        name: f"{count(overall[key]['changed'])} of {count(overall[key]['tested'])} {name} "
        f"({count(overall[key]['rose'])} rose, {count(overall[key]['fell'])} fell)"
        for name, key in kinds.items()
    }
    if overall["identical"]:
        yield Text(
            f"{title_of(overall)}: every edge has the same score on every example, so no edge and "
            f"no node changed. n = {count(found['examples'])} examples."
        )
        return
    yield Table(
        caption=f"The largest changes, {title_of(overall)}. At a false discovery rate of 5 % there "
        f"changed {listed(list(counts.values()))}. n = {count(found['examples'])} examples.",
        head=["", "before", "after", "change", "95 % interval", "q"],
        views={
            name: [_row(row) for row in overall[key]["rows"][:_TOP]] for name, key in kinds.items()
        },
        chosen="edges",
        method=Method(
            steps=(
                "Changes are paired by example. Edges and node totals (the signed sum of a node's "
                "outgoing edges): symmetric bootstrap-t intervals, p from the same t. Node "
                "strengths (the sum of |mean score| of the outgoing edges): jackknife. "
                "Benjamini-Hochberg over all edges, and over all nodes.",
                _COVERAGE,
            ),
            settings=_settings(found),
            source="Hall (1988), on symmetric bootstrap confidence intervals; Benjamini and "
            "Hochberg (1995).",
        ),
    )


def _row(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        general(row["before"]),
        general(row["after"]),
        general(row["change"]),
        f"[{general(row['low'])}, {general(row['high'])}]",
        "< 0.001" if row["q"] is not None and row["q"] < 0.001 else general(row["q"]),
    ]


def _shown(run: Run) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """The evolution, and of its comparisons the overall one and the consecutive ones."""
    found = run.json("comparison.json")
    comparisons = run.part("comparison.json", "comparisons")
    names = list(found["names"])
    steps = list(pairwise(names))
    wanted = list(dict.fromkeys([(names[0], names[-1]), *steps]))
    known = {(one["before"], one["after"]): one for one in comparisons}
    return found, [known[pair] for pair in wanted if pair in known]


def _overall(found: Mapping[str, Any]) -> Mapping[str, Any]:
    first, last = found["names"][0], found["names"][-1]
    for one in found["comparisons"]:
        if (one["before"], one["after"]) == (first, last):
            overall: Mapping[str, Any] = one
            return overall
    raise MissingResultError(f"comparison.json does not compare {first} and {last}.")


def _settings(found: Mapping[str, Any], *drawn: str) -> dict[str, Any]:
    """What the figure depends on. drawn: of `likeness`, in place of the bootstrap's resamples."""
    names = ("method", "examples", *(() if drawn else ("n_resamples",)), "seed")
    given = {**found, **found.get("likeness", {})}
    return {name: given[name] for name in (*names, *drawn) if name in given}
