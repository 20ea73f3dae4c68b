"""What the explorer's page is given: nodes, edges, and for each checkpoint what is known of them.

An edge is its place among all edges of the model, reader after reader. Numbers of many edges are
packed as base64 of little-endian 32-bit arrays: GPT-2 small's 32,491 scores are 170 KB so.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.evaluation.faithfulness import Curve, Faithfulness
from circuits.evaluation.results import CheckpointEvaluation
from circuits.graph import Circuit, EdgeScores, Layout
from circuits.graph.circuit import CircuitFile
from circuits.graph.orders import edge_order
from circuits.options.choices import Strategy
from circuits.runs import MissingResultError, RunFolder
from circuits.statistics.estimate import Estimate, mean_estimates

WITH_INTERVAL = 2000
"""Edges that get an interval: the strongest, and those of the circuit."""

_SIDES = {"f": "value", "low": "low", "high": "high"}

Json = dict[str, object]
T = TypeVar("T")


@dataclass(frozen=True)
class EdgeNumbers:
    """Edges as the page counts them.

    flat: of each, in that order, its place in the flattened score matrix.
    """

    layout: Layout
    flat: Int[Tensor, " edge"]

    @classmethod
    def of(cls, layout: Layout) -> EdgeNumbers:
        """The numbers of a model's edges."""
        columns, rows = layout.mask.T.nonzero(as_tuple=True)
        return cls(layout, rows * layout.shape[1] + columns)

    def of_flat(self, flat_indices: Int[Tensor, " some"]) -> Int[Tensor, " some"]:
        """Numbers of edges by their flat indices."""
        number = torch.full((self.layout.mask.numel(),), -1)
        number[self.flat] = torch.arange(len(self.flat))
        return number[flat_indices]

    def of_names(self, names: Iterable[str]) -> Int[Tensor, " some"]:
        """Numbers of edges by their names."""
        width = self.layout.shape[1]
        flat_indices = [row * width + column for row, column in map(self.layout.edge, names)]
        return self.of_flat(torch.tensor(flat_indices, dtype=torch.long))


def layout_contents(layout: Layout) -> Json:
    """Nodes and edges of a model."""
    return {
        "sizes": layout.to_dict(),
        "sources": list(layout.sources),
        "readers": list(layout.readers),
        "visible": [
            [rows.start, rows.stop] for rows in map(layout.visible, range(layout.shape[1]))
        ],
        "feeds": [list(rows) for rows in layout.feeds],
        "roots": list(layout.roots),
    }


def checkpoint_contents(
    name: str,
    scores: EdgeScores,
    *,
    circuit: Circuit | None = None,
    evaluated: CheckpointEvaluation | None = None,
) -> Json:
    """One set of scores, with the circuit that was saved and what its evaluation says of it.

    Args:
        name: what the page calls it.
        scores: of all edges.
        circuit: the one that was chosen, if it is there.
        evaluated: how far it holds, if that is known.

    Returns:
        JSON values.
    """
    numbers = EdgeNumbers.of(scores.layout)
    curves = None if evaluated is None else evaluated.curves
    strategy: Strategy = "widest-path" if curves is None else curves.strategy
    order = edge_order(scores, strategy, "absolute")
    circuit_edges = None
    if circuit is not None:
        circuit_edges = numbers.of_flat(circuit.mask.flatten().nonzero().flatten()).sort().values
    stability = None if evaluated is None else evaluated.stability
    contents: Json = {
        "name": name,
        "method": scores.method,
        "metric": scores.provenance.metric,
        "scores": packed(scores.matrix.flatten()[numbers.flat]),
        "order": packed(numbers.of_flat(order)),
        "strategy": strategy,
        "intervals": _intervals(scores, numbers, circuit_edges),
        "circuit": None if circuit_edges is None else packed(circuit_edges),
        "circuit_f": _circuit_f(evaluated),
        "curve": None if curves is None else _curve(curves),
        "circuit_file": _circuit_file(scores),
    }
    if stability is not None and stability.level == "edge":
        frequencies = stability.frequencies
        shares = torch.tensor([*frequencies.values()], dtype=torch.float32)
        contents["inclusion"] = {
            "edges": packed(numbers.of_names(frequencies)),
            "share": packed(shares),
        }
    return contents


def run_contents(run: RunFolder, title: str, subtitle: str) -> Json:
    """All that a run folder holds of its circuits.

    Args:
        run: the folder; a part that is missing is named in `missing`.
        title: the page's.
        subtitle: the line below it.

    Returns:
        JSON values.

    Raises:
        MissingResultError: where there is not one score file.
        CircuitsError: where a file is broken.
    """
    missing: list[str] = []

    def found(part: Callable[[], T]) -> T | None:
        try:
            return part()
        except MissingResultError as error:
            missing.append(str(error))
            return None

    scores = run.scores
    layout = next(iter(scores.values())).layout
    circuits = found(lambda: run.circuits) or {}
    evaluation = found(lambda: run.evaluation)
    evaluated: Mapping[str, CheckpointEvaluation] = (
        {} if evaluation is None else evaluation.checkpoints
    )
    missing += [f"There are no scores of {name}." for name in run.order if name not in scores]
    model = next(reversed(scores.values())).provenance.model
    return {
        "title": title,
        "subtitle": subtitle,
        "model": None if model is None else {"name": model.name, "fingerprint": model.fingerprint},
        "layout": layout_contents(layout),
        "checkpoints": [
            checkpoint_contents(
                name, edge_scores, circuit=circuits.get(name), evaluated=evaluated.get(name)
            )
            for name, edge_scores in scores.items()
        ],
        "changes": (found(lambda: _changes(run)) or []) if len(run.order) > 1 else [],
        "example": found(lambda: _example(run)),
        "missing": missing,
    }


def packed(values: Tensor) -> str:
    """A tensor of numbers as base64: whole ones as uint32, others as float32."""
    integers = not values.is_floating_point()
    array = values.cpu().numpy().astype("<u4" if integers else "<f4")
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _intervals(
    scores: EdgeScores, numbers: EdgeNumbers, circuit_edges: Int[Tensor, " kept"] | None
) -> Json | None:
    """95 % intervals of the edges that matter; None where single examples were not kept."""
    per_example = scores.per_example
    if per_example is None or len(per_example) < 2:
        return None
    values = scores.matrix.flatten()[numbers.flat].abs()
    strongest = values.argsort(descending=True, stable=True)[:WITH_INTERVAL]
    edges = strongest if circuit_edges is None else torch.cat([strongest, circuit_edges]).unique()
    rows, columns = (
        numbers.flat[edges].div(scores.layout.shape[1], rounding_mode="floor"),
        numbers.flat[edges] % scores.layout.shape[1],
    )
    edge_scores: Float[Tensor, "example some"] = per_example[:, rows, columns]
    estimates = mean_estimates(edge_scores)
    return {
        "edges": packed(edges),
        "low": packed(estimates.low),
        "high": packed(estimates.high),
        "n": len(per_example),
    }


def _curve(curves: Faithfulness) -> Json | None:
    """f by the number of edges, of the ranking by |score|."""
    curve: Curve | None = curves.curves.get("absolute")
    if curve is None or curve.level != "edge":
        return None
    return {
        "metric": curves.metric,
        "n": curves.n,
        "sizes": list(curve.sizes),
        **_estimates(curve.values),
    }


def _circuit_f(evaluated: CheckpointEvaluation | None) -> Json | None:
    """f of the circuit that was saved."""
    f = None if evaluated is None else evaluated.circuit.faithfulness
    if f is None:
        return None
    return {"n": f.n, **{name: side_values[0] for name, side_values in _estimates([f]).items()}}


def _estimates(figures: Sequence[Estimate]) -> dict[str, list[float | None]]:
    """Figures and the ends of their intervals; None where there is none."""
    sides = {name: [getattr(figure, field) for figure in figures] for name, field in _SIDES.items()}
    return {
        name: [value if math.isfinite(value) else None for value in side_values]
        for name, side_values in sides.items()
    }


def _circuit_file(scores: EdgeScores) -> Json:
    """The file of a circuit of these scores, without its edges, which the page puts in."""
    provenance = scores.provenance
    record = provenance.extended(method=scores.method, pairs=None, settings={}, performance=None)
    return CircuitFile(layout=scores.layout, edges=(), provenance=record).to_json()


def _changes(run: RunFolder) -> list[Json]:
    """Of each pair of checkpoints that was compared, the edges that changed significantly."""
    evolution = run.comparison
    numbers = EdgeNumbers.of(evolution.layout)
    return [
        {
            "before": comparison.before,
            "after": comparison.after,
            "edges": packed(numbers.of_names(comparison.edges.changed)),
        }
        for comparison in evolution.comparisons
    ]


def _example(run: RunFolder) -> Json:
    """The example that the run lays open, as text."""
    example = run.example
    return {
        "title": example.title,
        "clean": example.clean_prompt,
        "answer": example.answer,
        "corruptions": {
            name: [[piece.text, piece.corrupted] for piece in pieces]
            for name, pieces in example.corruptions.items()
        },
    }
