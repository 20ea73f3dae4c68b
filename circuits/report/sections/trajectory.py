"""From checkpoint to checkpoint: strengths, entries into the circuit, circuits in other models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from circuits.format import count, typeset
from circuits.report.blocks import Block, Details, Figure, Heading, Method
from circuits.report.figures.trajectory import (
    courses,
    cross_evaluation_courses,
    cross_evaluation_matrix,
    entry_bars,
    entry_raster,
    matrix_height,
    raster_height,
    shown_of,
)
from circuits.report.run import Run


def strengths(run: Run) -> Iterator[Block]:
    """Edge and node strength by training step."""
    found = run.json("comparison.json")
    course = run.part("comparison.json", "trajectory")
    checkpoints, steps = course["checkpoints"], found.get("steps")
    nodes = sorted(course["nodes"], key=lambda one: -max(map(abs, one["values"])))
    yield Heading("From checkpoint to checkpoint")
    yield Figure(
        caption="Strength by training step of the edges and of the nodes that are strongest at any "
        "checkpoint, in the metric's units, with 95 % intervals: an edge's mean score; a node's "
        f"sum of |mean score| over its outgoing edges. n = {count(found['examples'])} examples.",
        views={
            "edges": courses(
                checkpoints, steps, course["edges"], title="mean score (metric units)"
            ),
            "nodes": courses(checkpoints, steps, nodes, title="strength (metric units)"),
        },
        chosen="edges",
        height=380,
        method=Method(
            steps=(
                "Scores of different checkpoints are in the same units, but a model that does the "
                "task better has more of the metric to lose: compare shapes as well as heights.",
                "Intervals: symmetric bootstrap-t for edges, jackknife for nodes.",
            ),
            settings={"n_resamples": found["n_resamples"], "seed": found["seed"]},
        ),
    )


def entries(run: Run) -> Iterator[Block]:
    """When the edges of the final circuit entered it."""
    found = run.json("comparison.json")
    course = run.part("comparison.json", "trajectory")
    size, last = count(course["size"]), course["checkpoints"][-1]
    yield Figure(
        caption=f"When the {size} edges of {last}'s circuit entered: how many are in a "
        "checkpoint's circuit of equal size for the first time, and how many from then on. "
        f"n = {count(found['examples'])} examples.",
        views={"": entry_bars(course)},
        height=280,
        method=_entry_method(found, size),
    )
    yield Figure(
        caption=f"The edges of {last}'s circuit, by the checkpoint that they first enter at "
        "(ring). Colour: the share of resamples of the examples whose circuit holds the edge; a "
        f"ring in a pale cell is an entry that chance may have made.{shown_of(course)} "
        f"n = {count(found['examples'])} examples.",
        views={"": entry_raster(course)},
        height=raster_height(course),
        method=_entry_method(found, size),
    )


def cross_evaluation(run: Run) -> Iterator[Block]:
    """Every checkpoint's circuit in every other checkpoint."""
    found = run.json("cross_evaluation.json")
    scored = run.part("comparison.json", "data")
    n = count(found["n"])
    shared = len(set(found["data"].get("pairs") or ()) & set(scored.get("pairs") or ()))
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
            "metric": found["metric"],
            "examples": _data(found["data"]),
            "edges scored on": _data(scored),
            "edges": _edges(found),
        },
    )
    yield Heading("Circuits in other checkpoints")
    yield Figure(
        caption=f"Faithfulness by training step, with 95 % intervals over {n} examples. Grey: as "
        f"many random edges as the circuit of {found['circuits'][-1]} has.{flattered}",
        views={"": cross_evaluation_courses(found)},
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
    if found.get("paragraph"):
        yield Details("The cross-evaluation in full sentences", typeset(found["paragraph"]))


def _entry_method(found: Mapping[str, Any], size: str) -> Method:
    return Method(
        steps=(
            f"Circuits are the {size} edges highest by |mean score| at each checkpoint, unpruned. "
            "An edge that leaves and comes back enters at the first of the two, and settles at "
            "the second.",
        ),
        settings={"n_resamples": found["n_resamples"], "seed": found["seed"]},
    )


def _data(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {data[key]}" for key in ("task", "split", "n") if key in data)


def _edges(found: Mapping[str, Any]) -> str:
    pairs = zip(found["circuits"], found["edges"], strict=True)
    return ", ".join(f"{name} {edges}" for name, edges in pairs)
