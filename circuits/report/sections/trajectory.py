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
    found = run.comparison
    trajectory = found.trajectory
    nodes = sorted(trajectory.nodes, key=lambda one: -float(one.scores.value.abs().max()))
    views = {
        view: trajectory_lines(
            trajectory.checkpoints,
            found.training_steps,
            [Line(one.name, [one.scores[i] for i in range(len(found.names))]) for one in lines],
            title=title,
        )
        for view, lines, title in (
            ("edges", trajectory.edges, "mean score (metric units)"),
            ("nodes", nodes, "strength (metric units)"),
        )
    }
    yield Heading("From checkpoint to checkpoint")
    yield Figure(
        caption="Strength by training step of the edges and of the nodes that are strongest at any "
        "checkpoint, in the metric's units, with 95 % intervals: an edge's mean score; a node's "
        f"sum of |mean score| over its outgoing edges. n = {count(found.n)} examples.",
        views=views,
        chosen="edges",
        height=380,
        method=Method(
            steps=(
                "Scores of different checkpoints are in the same units, but a model that does the "
                "task better has more of the metric to lose: compare shapes as well as heights.",
                "Intervals: symmetric bootstrap-t for edges, jackknife for nodes.",
            ),
            settings={"n_resamples": found.n_resamples, "seed": found.seed},
        ),
    )


def inclusions(run: Run) -> Iterator[Block]:
    """When the edges of the final circuit were included in the circuit."""
    found = run.comparison
    trajectory, last = found.trajectory, found.names[-1]
    method = _inclusion_method(found)
    yield Figure(
        caption=f"When the {count(trajectory.size)} edges of {last}'s circuit were included: how "
        "many are in a checkpoint's circuit of equal size for the first time, and how many from "
        f"then on. n = {count(found.n)} examples.",
        views={"": inclusion_bars(trajectory)},
        height=280,
        method=method,
    )
    yield Figure(
        caption=f"The edges of {last}'s circuit, by the checkpoint whose circuit holds them first "
        "(ring). Colour: the share of resamples of the examples whose circuit holds the edge; a "
        "ring in a pale cell is an inclusion that may be due to chance."
        f"{shown_of(trajectory)} n = {count(found.n)} examples.",
        views={"": inclusion_raster(trajectory)},
        height=raster_height(trajectory),
        method=method,
    )


def cross_evaluation(run: Run) -> Iterator[Block]:
    """Every checkpoint's circuit in every other checkpoint."""
    found, scored = run.cross_evaluation, run.comparison
    n = count(found.n)
    shared = len(set(found.pairs) & set(scored.pairs or ()))
    flattered = (
        f" The edges were scored on {count(shared)} of these examples, which flatters f."
        if shared
        else ""
    )
    method = Method(
        steps=(
            "Each circuit runs in each model with all other edges taken from the corrupted run. f "
            "is relative to the model's own metric on clean and corrupted prompts: where these "
            "hardly differ, f says little.",
            "Bias-corrected and accelerated bootstrap intervals over examples.",
        ),
        formula="f = (metric of the circuit - corrupted) / (clean - corrupted)",
        settings={
            "metric": found.metric,
            "examples": _data(found.data),
            "edges scored on": _data(scored.data),
            "edges": _sizes(found),
        },
    )
    yield Heading("Circuits in other checkpoints")
    yield Figure(
        caption=f"Faithfulness by training step, with 95 % intervals over {n} examples. Grey: as "
        f"many random edges as the circuit of {found.circuits[-1]} has.{flattered}",
        views={"": cross_evaluation_lines(found)},
        height=340,
        method=method,
    )
    yield Figure(
        caption="Faithfulness of each checkpoint's circuit (columns) in each checkpoint (rows). "
        f"Hover for 95 % intervals over {n} examples.{flattered}",
        views={"": cross_evaluation_matrix(found)},
        height=matrix_height(found),
        method=method,
    )
    yield Details("Summary of the cross-evaluation", typeset(narrative.cross_evaluation(found)))


def _inclusion_method(found: Evolution) -> Method:
    return Method(
        steps=(
            f"Circuits are the {count(found.trajectory.size)} edges highest by |mean score| at "
            "each checkpoint, unpruned. An edge that leaves the circuit and comes back is included "
            "for the first time at the first of the two, and from then on at the second.",
        ),
        settings={"n_resamples": found.n_resamples, "seed": found.seed},
    )


def _data(data: DataRecord) -> str:
    return f"task {data.task}, split {data.split}, n {data.n}"


def _sizes(found: CrossEvaluation) -> str:
    pairs = zip(found.circuits, found.sizes, strict=True)
    return ", ".join(f"{name} {size}" for name, size in pairs)
