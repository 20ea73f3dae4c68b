"""What single edges do, measured: each corrupted alone, for the edges that matter to somebody.

The effect of an edge = metric of the clean run - metric with this one edge corrupted and everything
else live, which is what the gradient methods estimate to first order (`exact.py` has it of every
edge). Here it is measured for chosen edges, as the first of a ranking: runs start from the reader's
layer, several side by side.

Source: path patching of single edges (Goldowsky-Dill et al. 2023, "Localizing Model Behavior with
Path Patching"). Cost: the layers from each edge's reader on, once for each edge and batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import EdgeScores, Layout
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.metrics import metric_for
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.runtime.batching import over_batches
from circuits.runtime.display import Plotted
from circuits.statistics.estimate import Estimates, mean_estimates
from tasks.pairs import PairBatch, PairSet

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class EdgeEffects(Plotted):
    """How much the metric falls when each of some edges is corrupted alone.

    Attributes:
        layout: the model's nodes and edges.
        edges: their names.
        values: one effect for each example and edge, in the metric's units; positive: the edge
            supports the behaviour.
        metric: its name.
    """

    layout: Layout
    edges: tuple[str, ...]
    values: Float[Tensor, "example edge"]
    metric: str

    @cached_property
    def means(self) -> Estimates:
        """Mean effects with their intervals over the examples, in the order of `edges`."""
        return mean_estimates(self.values)

    def _facts(self) -> dict[str, str]:
        return {
            "edges": f"{len(self.edges)} of {self.layout.n_edges}",
            "metric": self.metric,
            "examples": str(len(self.values)),
        }

    def to_frame(self) -> pd.DataFrame:
        """The edges as a table.

        Returns:
            Columns edge, effect, low, high (its 95 % interval), in the order of `edges`.
        """
        import pandas as pd

        means = self.means
        return pd.DataFrame(
            {
                "edge": self.edges,
                "effect": means.value.tolist(),
                "low": means.low.tolist(),
                "high": means.high.tolist(),
            }
        )

    def refine(self, scores: EdgeScores) -> EdgeScores:
        """Scores in which these edges have their measured effects, and all others what they had.

        Args:
            scores: of the same model and metric.

        Returns:
            The scores, with no single examples'; their method says that some were measured.

        Raises:
            CircuitsError: for scores of another layout.
        """
        if scores.layout != self.layout:
            raise CircuitsError(
                f"effects of a model with {self.layout.summary} do not refine scores of one with "
                f"{scores.layout.summary}"
            )
        matrix = scores.matrix.clone()
        for edge, value in zip(self.edges, self.values.mean(dim=0).tolist(), strict=True):
            matrix[self.layout.edge(edge)] = value
        return replace(
            scores,
            matrix=matrix,
            method=f"{scores.method} + {len(self.edges)} exact",
            per_example=None,
            blocks=None,
            drawn=None,
        )


def patch_edges(
    model: HookedModel,
    pairs: PairSet,
    edges: Sequence[str],
    *,
    metric: str | None = None,
    options: RunOptions | None = None,
) -> EdgeEffects:
    """Corrupt each of some edges alone and look at the metric.

    Args:
        model: the model.
        pairs: clean and corrupted prompts.
        edges: their names, such as those of `scores.top(100)`.
        metric: a name from `circuits.metrics`, whether or not it has a gradient; None takes the
            pairs' own.
        options: batch size and progress bar.

    Returns:
        Each edge's effect on each example, in the order of `edges` and `pairs`.

    Raises:
        CircuitsError: for an edge that the model does not have or that is named twice, an unknown
            metric, and pairs that the model cannot read.
    """
    options = options or RunOptions()
    judge, layout = metric_for(pairs, metric), model.layout
    places = [layout.edge(edge) for edge in edges]
    if not edges or len(set(places)) < len(places):
        twice = next((edge for edge in edges if list(edges).count(edge) > 1), None)
        raise CircuitsError("no edges to patch" if twice is None else f"{twice} is named twice")
    model.validate(pairs)
    # Those of one reader side by side: they start from one layer.
    order = sorted(range(len(places)), key=lambda index: (-places[index][1], places[index][0]))

    def work(model: HookedModel, batch: PairBatch) -> Float[Tensor, "batch edge"]:
        runner = BatchedCircuitRunner(model, batch)
        clean = judge(runner.clean, batch, runner.clean)
        found = torch.zeros(len(batch), len(places), device=clean.device)
        for start in range(0, len(order), runner.width):
            chosen = order[start : start + runner.width]
            keep = layout.mask.repeat(len(chosen), 1, 1)
            for copy, index in enumerate(chosen):
                keep[copy][places[index]] = False
            for index, logits in zip(chosen, runner.logits(keep), strict=True):
                found[:, index] = clean - judge(logits, batch, runner.clean)
        return found

    values = torch.zeros(len(pairs), len(places))
    for batch, found in over_batches(
        model,
        pairs,
        work,
        batch_size=options.batch_size,
        progress="corrupting edges" if options.progress else None,
    ):
        values[batch.index.cpu()] = found.cpu()
    return EdgeEffects(layout, tuple(edges), values, judge.name)
