"""What changed between checkpoints: similarity beside its ceiling, turnover, variance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from circuits.comparison import Comparison
from circuits.comparison.circuit_similarity import CircuitSimilarity, SimilarityEstimate
from circuits.comparison.overlap import Overlap
from circuits.format import compact, estimate, percent
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels
from circuits.plot.figures.panels import axes_of, panel_grid
from circuits.plot.plotly_figure import Plot
from circuits.statistics.estimate import Estimate

SIMILARITIES = (
    "rank correlation, all edges",
    "weighted Jaccard, all edges",
    "shared edges (Jaccard)",
    "shared edges, weighted",
    "shared nodes (Jaccard)",
)
VARIANCE = ("source totals (nodes)", "reader totals (nodes)", "single edges (rewiring)")


def title_of(comparison: Comparison) -> str:
    """A comparison's two checkpoints."""
    return f"{comparison.before} → {comparison.after}"


def similarity_dots(compared: Mapping[str, Comparison | Overlap], columns: int) -> Plot:
    """Between models on disjoint halves, with the interval of the gap to the noise ceiling.

    compared: two models each, by the title of their panel.
    """
    between, within = [], []
    notes = []
    for panel, comparison in enumerate(compared.values()):
        for row, similarity in enumerate(_similarities(comparison)):
            if math.isnan(similarity.between) or math.isnan(similarity.within):
                notes.append((panel, row, "undefined"))
                continue
            ceiling, gap = similarity.within, similarity.gap
            bounds = (_end(ceiling + gap.low), _end(ceiling + gap.high))
            between.append(Dot(panel, row, similarity.between, *bounds))
            within.append(Dot(panel, row, ceiling))
    return dot_panels(
        list(compared),
        SIMILARITIES,
        [
            Series(
                "one of the two with itself (noise ceiling)",
                "$control",
                within,
                symbol="line-ns-open",
                size=15,
            ),
            Series("the two with each other", "$positive", between),
        ],
        ValueAxis("similarity (1 = identical)", span=_span([*between, *within])),
        columns=columns,
        pixels=30,
        notes=notes,
    )


def _similarities(comparison: Comparison | Overlap) -> tuple[SimilarityEstimate, ...]:
    """In the order of `SIMILARITIES`."""
    size = comparison.middle
    overall = (comparison.spearman, comparison.weighted_jaccard)
    return (*overall, size.edge_jaccard, size.weighted_jaccard, size.node_jaccard)


def _end(value: float) -> float | None:
    return None if math.isnan(value) else value


def _span(dots: Sequence[Dot]) -> tuple[float, float]:
    values = [value for dot in dots for value in (dot.value, dot.low) if value is not None]
    return (min(-0.02, min(values, default=0.0) - 0.04), 1.04)


@dataclass(frozen=True)
class _Bars:
    """One of four bars at each size: of which edges, and of which labels."""

    edges: Literal["node_driven", "rewired"]
    swapped: bool
    title: str
    colour: str

    def share(self, size: CircuitSimilarity) -> Estimate:
        """Their share of the edges in either circuit."""
        return self._of(size.node_driven if self.edges == "node_driven" else size.rewired)

    def start(self, size: CircuitSimilarity) -> float:
        """Where the bar stands: rewired edges on those that changed with a node."""
        below = self._of(size.node_driven).value
        return 0.0 if self.edges == "node_driven" or math.isnan(below) else below

    def whole(self, size: CircuitSimilarity) -> Estimate:
        """The whole turnover."""
        return size.permuted_turnover if self.swapped else size.turnover

    def _of(self, similarity: SimilarityEstimate) -> Estimate:
        return similarity.permuted if self.swapped else similarity.estimate


_BARS = (
    _Bars("node_driven", False, "added or removed with a node", "$negative"),
    _Bars("rewired", False, "rewired between nodes of both", "$positive"),
    _Bars("node_driven", True, "labels swapped, with a node", "$negative/55"),
    _Bars("rewired", True, "labels swapped, rewired", "$positive/55"),
)


def turnover_bars(comparisons: Sequence[Comparison], columns: int) -> Plot:
    """Edges that were added or removed, by size of circuit; beside that with the labels swapped."""
    titles = [title_of(comparison) for comparison in comparisons]
    layout = panel_grid(
        titles,
        columns=columns,
        height=turnover_height(len(titles), columns) - 110,
        xaxis={"type": "category", "showgrid": False, "title": {"text": "circuit size"}},
        yaxis={"title": {"text": "share of the edges"}, "range": [0, 1.02]},
        gap=0.04,
    )
    data = [
        bar
        for panel, comparison in enumerate(comparisons)
        for bar in _bars(panel, comparison.sizes)
    ]
    layout["bargap"] = 0.3
    layout["bargroupgap"] = 0.06
    layout["legend"] = {"y": 1 + 26 / (turnover_height(len(titles), columns) - 110)}
    layout["margin"] = {"t": 66}
    return {"data": data, "layout": layout}


def _bars(panel: int, sizes: Sequence[CircuitSimilarity]) -> Iterator[Plot]:
    for kind in _BARS:
        shares = [kind.share(size) for size in sizes]
        bar: Plot = {
            "type": "bar",
            "name": kind.title,
            "legendgroup": kind.title,
            "showlegend": panel == 0,
            "x": [percent(size.fraction, 1).replace(".0", "") for size in sizes],
            "y": compact([share.value for share in shares]),
            "offsetgroup": "permuted" if kind.swapped else "value",
            "base": None
            if kind.edges == "node_driven"
            else compact([kind.start(size) for size in sizes]),
            "marker": {"color": kind.colour, "line": {"width": 0}},
            "customdata": [estimate(share) for share in shares],
            "hovertemplate": f"{kind.title}<br>circuits of %{{x}} of all edges: %{{customdata}}"
            "<extra></extra>",
            **axes_of(panel),
        }
        if kind.edges == "rewired":  # stands on the other: its top is the whole turnover
            turnovers = [kind.whole(size) for size in sizes]
            bar["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": compact([turnover.high - turnover.value for turnover in turnovers]),
                "arrayminus": compact([turnover.value - turnover.low for turnover in turnovers]),
                "color": "$control" if kind.swapped else "$ink",
                "thickness": 1.2,
                "width": 3,
            }
        yield bar


def turnover_height(panels: int, columns: int) -> int:
    """Pixels that the figure needs."""
    rows = -(-panels // min(columns, panels))
    return 110 + rows * 170 + (rows - 1) * 76


def variance_dots(comparisons: Sequence[Comparison], columns: int) -> Plot:
    """Shares of the variance of the score change, beside the shares under swapped labels."""
    shares, chance, notes = [], [], []
    for panel, comparison in enumerate(comparisons):
        split = comparison.variance
        for row, part in enumerate((split.source, split.reader, split.interaction)):
            permuted, share = part.permuted, part.estimate
            if not math.isnan(permuted.value):
                chance.append(Dot(panel, row, permuted.value, permuted.low, permuted.high))
            if math.isnan(share.value):
                notes.append((panel, row, "no change stands out"))
            else:
                shares.append(Dot(panel, row, share.value, share.low, share.high))
    return dot_panels(
        [title_of(comparison) for comparison in comparisons],
        VARIANCE,
        [
            Series(
                "checkpoints' labels swapped at random",
                "$control",
                chance,
                symbol="line-ns-open",
                offset=0.18,
                size=11,
            ),
            Series("the change, noise left out", "$positive", shares, offset=-0.14),
        ],
        ValueAxis("share of the variance", span=_span([*shares, *chance])),
        columns=columns,
        pixels=38,
        notes=notes,
    )
