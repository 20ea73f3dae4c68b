"""What fine-tuning changed: nodes or edges, and which."""

from __future__ import annotations

from collections.abc import Iterator

from circuits.comparison import Evolution
from circuits.comparison.changes import Change
from circuits.format import count, general, listed, p_value, percent, typeset
from circuits.plot.figures.comparison import (
    SIMILARITIES,
    VARIANCE,
    similarity_dots,
    title_of,
    turnover_bars,
    turnover_height,
    variance_dots,
)
from circuits.plot.figures.dots import dots_height
from circuits.plot.figures.panels import balanced
from circuits.report import narrative
from circuits.report.blocks import Block, Details, Figure, Heading, Method, Table, Text
from circuits.report.run import Run

_TOP = 12
_COVERAGE = "What these intervals cover on simulated and on real scores: docs/statistics.md."
_JACKKNIFE = "Shao and Wu (1989), A general theory for jackknife variance estimation."


def similarity(run: Run) -> Iterator[Block]:
    """How similar checkpoints are, beside how similar one is to itself."""
    evolution, overview = run.comparison, run.comparison.overview
    columns = balanced([title_of(comparison) for comparison in overview])
    size, samples = overview[0].middle, evolution.samples
    yield Figure(
        caption="Blue: the similarity of two checkpoints. Grey: the similarity of one "
        "checkpoint with itself. Both compare disjoint halves of the examples. The interval "
        "is that of the difference from the grey mark; where it includes the mark, "
        f"{count(evolution.n)} examples show no difference beyond noise. Shared edges and nodes "
        f"are those of circuits of {count(size.size)} edges ({percent(size.fraction)}).",
        views={
            "": similarity_dots(
                {title_of(comparison): comparison for comparison in overview}, columns
            )
        },
        height=dots_height(len(overview), len(SIMILARITIES), columns, 30),
        method=Method(
            steps=(
                "Two checkpoints that are scored on the same examples share the noise of these "
                "examples. Both similarities are therefore measured between disjoint halves, "
                "many times. Each circuit consists of the top edges by |score|, without "
                "pruning; all have the same size.",
                "The rank correlation is Spearman's, of |score|. The weighted Jaccard index is "
                "the sum of the smaller |score| over the sum of the larger one, after each side "
                "is scaled to a sum of 1.",
                "Intervals: delete-d jackknife, on random subsets of the examples.",
                _COVERAGE,
            ),
            formula="gap = similarity between checkpoints - similarity within one",
            settings={
                **_settings(evolution),
                "splits": samples.splits,
                "gap subsets": samples.gap_subsets,
                "gap splits": samples.gap_splits,
            },
            source=_JACKKNIFE,
        ),
    )
    yield Details("Summary of the comparison", typeset(narrative.evolution(evolution)))


def turnover(run: Run) -> Iterator[Block]:
    """Node changes or rewiring?"""
    yield Heading("Node changes or rewiring?")
    evolution, overview = run.comparison, run.comparison.overview
    columns = balanced([title_of(comparison) for comparison in overview])
    yield Figure(
        caption="The share of edges that are in only one of the two circuits, at several "
        "circuit sizes. Orange: the edge was added or removed together with a node that the "
        "other circuit does not have. Blue: both of its nodes are in both circuits, so the "
        "edge was rewired. Pale bars show the same after the checkpoints' labels are "
        "swapped at random, example by example. Lines show the 95 % interval of the whole "
        f"turnover, and on pale bars its central 95 %. n = {count(evolution.n)} examples.",
        views={"": turnover_bars(overview, columns)},
        height=turnover_height(len(overview), columns),
        method=Method(
            steps=(
                "A circuit consists of the top edges by |score| at each size. Large circuits "
                "contain nearly every node, so their edges can only be rewired: compare each "
                "bar with the pale bar beside it.",
                "Intervals: delete-d jackknife, on random halves of the examples.",
                _COVERAGE,
            ),
            formula="1 - Jaccard = share added or removed with a node + share rewired",
            settings={
                **_settings(evolution),
                "halves": evolution.samples.halves,
                "label swaps": evolution.samples.label_swaps,
            },
            source=_JACKKNIFE,
        ),
    )
    yield Figure(
        caption="Where the variance of the score change lies, over all edges and without the "
        "noise: in what sources send in total, in what readers receive in total, or in "
        "single edges beyond both. Intervals are 95 %. Grey shows the mean and central 95 % "
        "after the checkpoints' labels are swapped at random, example by example. Test of "
        "no change at all: "
        + "; ".join(
            f"{title_of(comparison)} {p_value(comparison.variance.p)}" for comparison in overview
        )
        + f". n = {count(evolution.n)} examples.",
        views={"": variance_dots(overview, columns)},
        height=dots_height(len(overview), len(VARIANCE), columns, 38),
        method=Method(
            steps=(
                "The change of every edge is modelled as a mean, an effect of its source, an "
                "effect of its reader, and a rest, by least squares. If fine-tuning had only "
                "turned nodes up and down, the first two effects would explain the change; the "
                "rest comes from single rewired edges. What both effects could explain is split "
                "evenly (Shapley value).",
                "Products of an example with itself are left out, which removes the variance that "
                "the mean of noisy scores adds. Because of its uncertainty, a share may lie "
                "below 0 or above 1.",
                "Intervals: Student's t with the unbiased variance of a U-statistic.",
                _COVERAGE,
            ),
            formula="change(u → v) = mean + source(u) + reader(v) + rest(u → v)",
            settings={**_settings(evolution), "n_resamples": evolution.n_resamples},
            source="Lindeman, Merenda and Gold (1980), for the shares; Hoeffding (1948), for the "
            "variance of a U-statistic.",
        ),
    )


def edges(run: Run) -> Iterator[Block]:
    """The edges that changed the most."""
    evolution = run.comparison
    yield Heading("Edges and nodes that changed")
    overall = evolution.overall
    if overall.identical:
        yield Text(
            f"{title_of(overall)}: every edge has the same score on every example, so no edge and "
            f"no node changed. n = {count(evolution.n)} examples."
        )
        return
    tables = {
        "edges": overall.edges,
        "node totals": overall.node_totals,
        "node strengths": overall.node_strengths,
    }
    counts = [narrative.counted(table, name, count) for name, table in tables.items()]
    yield Table(
        caption=f"The largest changes, {title_of(overall)}. At a false discovery rate of 5 %, "
        f"{listed(counts)} changed. n = {count(evolution.n)} examples.",
        head=["", "before", "after", "change", "95 % interval", "q"],
        views={
            name: [_row(table.row(index)) for index in table.order()[:_TOP]]
            for name, table in tables.items()
        },
        chosen="edges",
        method=Method(
            steps=(
                "Changes are paired by example. Edges and node totals (the signed sum of a "
                "node's outgoing edges) have symmetric bootstrap-t intervals, and p comes from "
                "the same t. Node strengths (the sum of |mean score| of the outgoing edges) "
                "have jackknife intervals. q is Benjamini and Hochberg's, over all edges and "
                "over all nodes.",
                _COVERAGE,
            ),
            settings={**_settings(evolution), "n_resamples": evolution.n_resamples},
            source="Hall (1988), on symmetric bootstrap confidence intervals; Benjamini and "
            "Hochberg (1995).",
        ),
    )


def _row(row: Change) -> list[str]:
    return [
        row.name,
        general(row.before),
        general(row.after),
        general(row.change.value),
        f"[{general(row.change.low)}, {general(row.change.high)}]",
        "< 0.001" if row.q < 0.001 else general(row.q),
    ]


def _settings(evolution: Evolution) -> dict[str, object]:
    """What every figure depends on."""
    return {"method": evolution.method, "examples": evolution.n, "seed": evolution.seed}
