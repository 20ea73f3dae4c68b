"""Comparisons in plain words, with figures, intervals and the number of examples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from circuits.comparison.agreement import SUBSETS
from circuits.comparison.variance import SIGNIFICANT
from circuits.format import bracketed, figure

if TYPE_CHECKING:
    from circuits.comparison.agreement import SimilarityEstimate
    from circuits.comparison.changes import Changes
    from circuits.comparison.cross_evaluation import CrossEvaluation, Row
    from circuits.comparison.edges import CircuitSimilarity, Comparison, Evolution
    from circuits.comparison.variance import VarianceShare
    from circuits.statistics.estimate import Estimate


def evolution(result: Evolution) -> str:
    """First against last in full, then a sentence for each consecutive step."""
    overall = result.overall
    text = (
        f"{result.examples} examples, the same for every checkpoint; intervals are 95 %, "
        f"over examples ({result.n_resamples} resamples for edges and node totals, {SUBSETS} "
        f"random halves for likeness and turnover). {comparison(overall)}"
    )
    steps = [one for one in result.comparisons[: len(result.names) - 1] if one is not overall]
    return " ".join([text, *(_step(one) for one in steps)])


def comparison(one: Comparison) -> str:
    """What changed, how alike the circuits are, and whether nodes or edges moved."""
    if one.identical:
        return (
            f"{one.before} and {one.after}: no change. Every edge has the same score on every "
            "example."
        )
    if not changed(one):
        return (
            f"{one.before} and {one.after}: no change beyond noise. None of {len(one.edges)} edges "
            f"and of {len(one.totals)} nodes' totals and strengths changed at a false discovery "
            f"rate of 5 %, and the change as a whole is {_as_by_chance(one)}."
        )
    size = one.sizes[len(one.sizes) // 2]
    sentences = [
        f"From {one.before} to {one.after}, {_counted(one.edges, 'edges')}, "
        f"{_counted(one.totals, 'node totals')} and {_counted(one.nodes, 'node strengths')} "
        "changed at a false discovery rate of 5 %.",
        _largest(one),
        "" if one.variance.p <= SIGNIFICANT else f"As a whole the change is {_as_by_chance(one)}.",
        f"Circuits of {size.edges} edges ({size.share:.1%} of all) share "
        f"{_estimate(size.edge_jaccard)} of their edges and {_estimate(size.node_jaccard)} of "
        f"their nodes (Jaccard); the rank correlation of all edges is {_estimate(one.spearman)}.",
        _beside_noise(size.edge_jaccard),
        _turnover(size),
        _variance(one),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def cross_evaluation(one: CrossEvaluation) -> str:
    """How faithful each checkpoint's circuit is in itself, and in the first and the last model."""
    text = (
        f"f is the share of the {one.metric} that a circuit alone recovers, on {one.n} examples "
        "that are the same for every model; 95 % bootstrap intervals over examples."
    )
    known = {row.model: row for row in one.rows if row.f}
    own = [
        f"{_estimate(row.f[one.circuits.index(name)])} at {name}"
        for name, row in known.items()
        if name in one.circuits
    ]
    sentences = [text]
    if own:
        sentences.append(f"In its own model each circuit reaches {', '.join(own)}.")
    first, last = one.circuits[0], one.circuits[-1]
    if first != last:
        sentences += [
            _borrowed(known[model], one, circuit)
            for circuit, model in ((last, first), (first, last))
            if model in known
        ]
    sentences += [f"At {row.model} f is undefined." for row in one.rows if row.undefined]
    return " ".join(sentences)


def _borrowed(row: Row, one: CrossEvaluation, circuit: str) -> str:
    place = one.circuits.index(circuit)
    text = f"In {row.model}, the circuit of {circuit} reaches {_estimate(row.f[place])}"
    if row.behind is None:
        return text + "."
    behind = row.behind[place]
    if behind.low > 0:
        return f"{text}, behind its own circuit by {_estimate(behind)}."
    if behind.high < 0:
        ahead = f"{figure(-behind.value)} {bracketed(-behind.high, -behind.low)}"
        return f"{text}, ahead of its own circuit by {ahead}."
    return f"{text}, not told apart from its own circuit (behind by {_estimate(behind)})."


def changed(one: Comparison) -> bool:
    """Whether anything changed beyond noise: an edge, a node, or the whole.

    Three tables at a false discovery rate of 5 % and a test: where nothing changed, one or another
    speaks more often than each (docs/statistics.md).
    """
    tables = (one.edges, one.totals, one.nodes)
    return not one.identical and (
        any(table.changed for table in tables) or one.variance.p <= SIGNIFICANT
    )


def _estimate(one: SimilarityEstimate | VarianceShare | Estimate) -> str:
    return f"{figure(one.value)} {bracketed(one.low, one.high)}"


def _counted(changes: Changes, what: str) -> str:
    record = changes.to_dict(top=0)
    return (
        f"{record['changed']} of {record['tested']} {what} "
        f"({record['rose']} rose, {record['fell']} fell)"
    )


def _largest(one: Comparison) -> str:
    """Of the edges; where none changed, of the nodes."""
    tables = ((one.edges, "edge"), (one.totals, "total of"), (one.nodes, "strength of"))
    for changes, what in tables:
        if changes.changed:
            row = changes.row(changes.order()[0])
            return (
                f"The largest change is at the {what} {row['name']}: {figure(row['change'])} "
                f"{bracketed(row['low'], row['high'])}, from {figure(row['before'])} to "
                f"{figure(row['after'])}."
            )
    return ""


def _as_by_chance(one: Comparison) -> str:
    return (
        "no larger than with the checkpoints' labels swapped at random "
        f"(p = {figure(one.variance.p)})"
    )


def _beside_noise(measure: SimilarityEstimate) -> str:
    verdict = (
        "less than noise alone would leave" if measure.gap_high < 0 else "not told apart from noise"
    )
    return (
        f"On disjoint halves of the examples the two checkpoints share {figure(measure.across)} of "
        f"their edges and one checkpoint shares {figure(measure.noise)} with itself (difference "
        f"{figure(measure.gap)} {bracketed(measure.gap_low, measure.gap_high)}): {verdict}."
    )


def _turnover(size: CircuitSimilarity) -> str:
    share, shared = size.rewired_share, size.edge_jaccard
    if not math.isfinite(share.value):
        return "No edge of the circuit came or went."
    by_chance = (
        f"{_permuted(share)} are, of a turnover of {figure(1 - shared.permuted)} "
        f"{bracketed(1 - shared.permuted_high, 1 - shared.permuted_low)} of the edges in place of "
        f"{figure(1 - shared.value)}"
        if math.isfinite(share.permuted)
        else "no edge comes or goes"
    )
    return (
        f"Of the edges that came or went, {_estimate(share)} were rewired among nodes present in "
        f"both circuits and the rest came or went with a node; with labels swapped at random by "
        f"example, {by_chance}."
    )


def _permuted(measure: SimilarityEstimate | VarianceShare) -> str:
    return f"{figure(measure.permuted)} {bracketed(measure.permuted_low, measure.permuted_high)}"


def _variance(one: Comparison) -> str:
    split = one.variance
    if not math.isfinite(split.source.value):
        return "The change is too small beside the noise to be split into nodes and edges."
    parts = [_estimate(part) for part in (split.source, split.reader, split.interaction)]
    return (
        f"Of the variance of the score change, noise left out, {parts[0]} lies in what sources "
        f"send in total, {parts[1]} in what readers receive in total, and {parts[2]} in single "
        f"edges beyond either; with labels swapped at random the last is "
        f"{_permuted(split.interaction)}."
    )


def _step(one: Comparison) -> str:
    if one.identical:
        return f"From {one.before} to {one.after}: no change."
    if not changed(one):
        return f"From {one.before} to {one.after}: no change beyond noise."
    size = one.sizes[len(one.sizes) // 2]
    return (
        f"From {one.before} to {one.after}, {_counted(one.edges, 'edges')} and "
        f"{_counted(one.totals, 'node totals')} changed; circuits of "
        f"{size.edges} edges share {_estimate(size.edge_jaccard)} of them."
    )
