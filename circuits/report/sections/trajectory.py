"""From checkpoint to checkpoint: strengths, inclusion in the circuit, circuits in other models."""

from __future__ import annotations

from collections.abc import Iterator

from circuits.comparison import CrossEvaluation, Evolution
from circuits.format import count, typeset
from circuits.graph.provenance import DataRecord
from circuits.plot.figures.trajectory import (
    Line,
    cross_evaluation_lines,
    cross_evaluation_matrix,
    inclusion_bars,
    inclusion_raster,
    matrix_height,
    raster_height,
    shown_of,
    trajectory_lines,
)
from circuits.report import narrative
from circuits.report.blocks import Block, Details, Figure, Heading, Method
from circuits.report.run import Run


def strengths(run: Run) -> Iterator[Block]:
    """Edge and node strength by training step."""
    evolution = run.comparison
    trajectory = evolution.trajectory
    nodes = sorted(trajectory.nodes, key=lambda node: -float(node.scores.value.abs().max()))
    views = {
        view: trajectory_lines(
            trajectory.checkpoints,
            evolution.training_steps,
            [
                Line(line.name, [line.scores[i] for i in range(len(evolution.names))])
                for line in lines
            ],
            title=title,
        )
        for view, lines, title in (
            ("edges", trajectory.edges, "mean score (metric units)"),
            ("nodes", nodes, "strength (metric units)"),
        )
    }
    yield Heading("From checkpoint to checkpoint")
    yield Figure(
        caption="The edges and nodes that are strongest at any checkpoint, by training step, in "
        "the metric's units and with 95 % intervals. The strength of an edge is its mean "
        "score; that of a node is the sum of |mean score| over its outgoing edges. n = "
        f"{count(evolution.n)} examples.",
        views=views,
        chosen="edges",
        height=380,
        method=Method(
            steps=(
                "Scores of all checkpoints are in the same units, but a model that is better at "
                "the task has more of the metric to lose. Compare the shapes as well as the "
                "heights.",
                "Edges have symmetric bootstrap-t intervals, nodes jackknife intervals.",
            ),
            settings={"n_resamples": evolution.n_resamples, "seed": evolution.seed},
        ),
    )


def inclusions(run: Run) -> Iterator[Block]:
    """When the edges of the final circuit were included in the circuit."""
    evolution = run.comparison
    trajectory, last = evolution.trajectory, evolution.names[-1]
    method = _inclusion_method(evolution)
    yield Figure(
        caption=f"When the {count(trajectory.size)} edges of {last}'s circuit were included. "
        "Blue: edges that are in a checkpoint's circuit of equal size for the first time. "
        f"Green: edges that are in it from then on. n = {count(evolution.n)} examples.",
        views={"": inclusion_bars(trajectory)},
        height=280,
        method=method,
    )
    yield Figure(
        caption=f"The edges of {last}'s circuit, in the order of the checkpoint whose circuit "
        "holds them first (ring). The colour is the share of resamples of the examples "
        "whose circuit contains the edge. A ring in a pale cell may be due to chance."
        f"{shown_of(trajectory)} n = {count(evolution.n)} examples.",
        views={"": inclusion_raster(trajectory)},
        height=raster_height(trajectory),
        method=method,
    )


def cross_evaluation(run: Run) -> Iterator[Block]:
    """Every checkpoint's circuit in every other checkpoint."""
    crossed, scored = run.cross_evaluation, run.comparison
    n = count(crossed.n)
    shared = len(set(crossed.pairs) & set(scored.pairs or ()))
    flattered = (
        f" The edges were scored on {count(shared)} of these examples, which flatters f."
        if shared
        else ""
    )
    method = Method(
        steps=(
            "Each circuit runs in each model, with all other edges taken from the corrupted "
            "run. f is relative to the model's own metric on clean and corrupted prompts. If "
            "these hardly differ, f says little.",
            "Intervals are bias-corrected and accelerated bootstrap intervals over examples.",
        ),
        formula="f = (metric of the circuit - corrupted) / (clean - corrupted)",
        settings={
            "metric": crossed.metric,
            "examples": _data(crossed.data),
            "edges scored on": _data(scored.data),
            "edges": _sizes(crossed),
        },
    )
    yield Heading("Circuits in other checkpoints")
    yield Figure(
        caption=f"Faithfulness by training step, with 95 % intervals over {n} examples. Grey: a "
        f"random circuit with as many edges as that of {crossed.circuits[-1]}.{flattered}",
        views={"": cross_evaluation_lines(crossed)},
        height=340,
        method=method,
    )
    yield Figure(
        caption="Faithfulness of each checkpoint's circuit (columns) in each checkpoint (rows). "
        f"Hover for 95 % intervals over {n} examples.{flattered}",
        views={"": cross_evaluation_matrix(crossed)},
        height=matrix_height(crossed),
        method=method,
    )
    yield Details("Summary of the cross-evaluation", typeset(narrative.cross_evaluation(crossed)))


def _inclusion_method(evolution: Evolution) -> Method:
    return Method(
        steps=(
            f"A circuit consists of the {count(evolution.trajectory.size)} edges with the highest "
            "|mean score| at each checkpoint, without pruning. If an edge leaves the circuit "
            "and comes back, the first inclusion counts for blue and the second for green.",
        ),
        settings={"n_resamples": evolution.n_resamples, "seed": evolution.seed},
    )


def _data(data: DataRecord) -> str:
    return f"task {data.task}, split {data.split}, n {data.n}"


def _sizes(crossed: CrossEvaluation) -> str:
    pairs = zip(crossed.circuits, crossed.sizes, strict=True)
    return ", ".join(f"{name} {size}" for name, size in pairs)
