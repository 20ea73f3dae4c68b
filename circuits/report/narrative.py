"""Comparisons in sentences, with figures, intervals and the number of examples."""

from __future__ import annotations

import math
from collections.abc import Callable

from circuits.comparison import Comparison, CrossEvaluation, Evolution
from circuits.comparison.changes import Changes
from circuits.comparison.circuit_similarity import CircuitSimilarity, SimilarityEstimate
from circuits.comparison.cross_evaluation import Row
from circuits.format import bracketed, figure
from circuits.statistics.estimate import Estimate


def evolution(result: Evolution) -> str:
    """First and last checkpoint in full, then a sentence for each step between."""
    text = (
        f"All checkpoints are compared on the same {result.n} examples. Intervals are 95 %, over "
        f"examples ({result.n_resamples} resamples for edges and node totals, "
        f"{result.samples.halves} random halves for similarity and turnover). "
        f"{comparison(result.overall)}"
    )
    return " ".join([text, *(_step(step) for step in result.steps_between)])


def comparison(comparison: Comparison) -> str:
    """What changed, how similar the circuits are, and whether nodes or edges changed."""
    if comparison.identical:
        return (
            f"{comparison.before} and {comparison.after}: no change. Every edge has the same score "
            "on every example."
        )
    if not comparison.changed:
        return (
            f"{comparison.before} and {comparison.after}: no change beyond noise. None of "
            f"{comparison.edges.tested} edges and of {comparison.node_totals.tested} nodes' totals "
            "and strengths changed at a false discovery rate of 5 %, and the change as a whole is "
            f"{_as_by_chance(comparison)}."
        )
    size = comparison.middle
    sentences = [
        f"From {comparison.before} to {comparison.after}, {counted(comparison.edges, 'edges')}, "
        f"{counted(comparison.node_totals, 'node totals')} and "
        f"{counted(comparison.node_strengths, 'node strengths')} changed at a false discovery "
        "rate of 5 %.",
        _largest(comparison),
        ""
        if comparison.variance.significant
        else f"As a whole the change is {_as_by_chance(comparison)}.",
        f"The Jaccard index of circuits of {size.size} edges ({size.fraction:.1%} of all) is "
        f"{_estimate(size.edge_jaccard.estimate)} by edges and "
        f"{_estimate(size.node_jaccard.estimate)} by nodes; the rank correlation "
        f"of all edges is {_estimate(comparison.spearman.estimate)}.",
        _beside_ceiling(size.edge_jaccard),
        _turnover(size),
        _variance(comparison),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def cross_evaluation(evaluation: CrossEvaluation) -> str:
    """How faithful each checkpoint's circuit is in itself, and in the first and the last model."""
    text = (
        f"f is the share of the {evaluation.metric} that a circuit alone recovers, on "
        f"{evaluation.n} examples that are the same for every model. Intervals are 95 % bootstrap "
        "intervals over examples."
    )
    rows = {row.model: row for row in evaluation.rows if row.f}
    own_f = {name: evaluation.own(name) for name in rows}
    reached = [f"{_estimate(f)} at {name}" for name, f in own_f.items() if f is not None]
    sentences = [text]
    if reached:
        sentences.append(f"In its own model each circuit reaches {', '.join(reached)}.")
    first, last = evaluation.circuits[0], evaluation.circuits[-1]
    if first != last:
        sentences += [
            _in_another_model(rows[model], evaluation, circuit)
            for circuit, model in ((last, first), (first, last))
            if model in rows
        ]
    sentences += [f"At {row.model} f is undefined." for row in evaluation.rows if row.undefined]
    return " ".join(sentences)


def counted(changes: Changes, noun: str, format_number: Callable[[int], str] = str) -> str:
    """How many changed, of how many, and in which direction.

    format_number: a page sets thin spaces between digits, which not every terminal can print.
    """
    changed, tested, risen, fallen = map(
        format_number, (len(changes.changed), changes.tested, changes.risen, changes.fallen)
    )
    return f"{changed} of {tested} {noun} ({risen} rose, {fallen} fell)"


def verdict(similarity: SimilarityEstimate) -> str:
    """What the gap between two checkpoints and the noise ceiling says."""
    if similarity.below_ceiling:
        return "less than noise alone explains"
    return "not distinguishable from noise"


# -- helpers


def _in_another_model(row: Row, crossed: CrossEvaluation, circuit: str) -> str:
    index = crossed.circuits.index(circuit)
    text = f"In {row.model}, the circuit of {circuit} reaches {_estimate(row.f[index])}"
    if row.behind is None:
        return text + "."
    behind = row.behind[index]
    if behind.low > 0:
        return f"{text}, behind its own circuit by {_estimate(behind)}."
    if behind.high < 0:
        ahead = f"{figure(-behind.value)} {bracketed(-behind.high, -behind.low)}"
        return f"{text}, ahead of its own circuit by {ahead}."
    return (
        f"{text}, which cannot be distinguished from its own circuit (behind by "
        f"{_estimate(behind)})."
    )


def _estimate(estimate: Estimate) -> str:
    return f"{figure(estimate.value)} {bracketed(estimate.low, estimate.high)}"


def _largest(pair_comparison: Comparison) -> str:
    """Of the edges; where none changed, of the nodes."""
    tables = (
        (pair_comparison.edges, "edge"),
        (pair_comparison.node_totals, "total of"),
        (pair_comparison.node_strengths, "strength of"),
    )
    for changes, prefix in tables:
        if changes.changed:
            row = changes.row(changes.order()[0])
            return (
                f"The largest change is at the {prefix} {row.name}: {_estimate(row.change)}, from "
                f"{figure(row.before)} to {figure(row.after)}."
            )
    return ""


def _as_by_chance(pair_comparison: Comparison) -> str:
    return (
        "no larger than with the checkpoints' labels swapped at random "
        f"(p = {figure(pair_comparison.variance.p)})"
    )


def _beside_ceiling(shared: SimilarityEstimate) -> str:
    return (
        "On disjoint halves of the examples the two checkpoints share "
        f"{figure(shared.between)} of their edges and one checkpoint shares "
        f"{figure(shared.within)} with itself (difference {_estimate(shared.gap)}): "
        f"{verdict(shared)}."
    )


def _turnover(size: CircuitSimilarity) -> str:
    rewired = size.rewired_share
    if not math.isfinite(rewired.estimate.value):
        return "No edge of the circuit was added or removed."
    by_chance = (
        f"{_estimate(rewired.permuted)} of them are rewired, and the turnover is "
        f"{_estimate(size.permuted_turnover)} of the edges, compared with "
        f"{figure(size.turnover.value)}"
        if math.isfinite(rewired.permuted.value)
        else "no edge is added or removed"
    )
    return (
        f"Of the edges that were added or removed, {_estimate(rewired.estimate)} were rewired "
        "among nodes of both circuits; the rest were added or removed with a node. With labels "
        f"swapped at random by example, {by_chance}."
    )


def _variance(pair_comparison: Comparison) -> str:
    split = pair_comparison.variance
    if not math.isfinite(split.source.estimate.value):
        return (
            "Compared with the noise, the change is too small to be divided into nodes and edges."
        )
    source, reader, single = (
        _estimate(part.estimate) for part in (split.source, split.reader, split.interaction)
    )
    return (
        f"Of the variance of the score change (without the noise), {source} lies in what sources "
        f"send in total, {reader} in what readers receive in total, and {single} in single edges "
        "beyond both. With labels swapped at random, the last share is "
        f"{_estimate(split.interaction.permuted)}."
    )


def _step(pair_comparison: Comparison) -> str:
    if pair_comparison.identical:
        return f"From {pair_comparison.before} to {pair_comparison.after}: no change."
    if not pair_comparison.changed:
        return f"From {pair_comparison.before} to {pair_comparison.after}: no change beyond noise."
    size = pair_comparison.middle
    return (
        f"From {pair_comparison.before} to {pair_comparison.after}, "
        f"{counted(pair_comparison.edges, 'edges')} and "
        f"{counted(pair_comparison.node_totals, 'node totals')} changed; the Jaccard index of "
        f"circuits of {size.size} edges is {_estimate(size.edge_jaccard.estimate)}."
    )
