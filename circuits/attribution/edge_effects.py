"""What single edges do, measured: each corrupted alone, for the edges that matter to somebody.

Of chosen edges, as the first of a ranking, what `single_edges` says of each; method `exact` has it
of every edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.single_edges import single_edge_effects
from circuits.errors import CircuitsError
from circuits.graph import EdgeScores, Layout
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.metrics import metric_for
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.runtime.batching import over_batches
from circuits.runtime.display import Plotted
from circuits.runtime.runs_bar import RunsBar
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
    edge_indices = [layout.edge(edge) for edge in edges]
    if not edges or len(set(edge_indices)) < len(edge_indices):
        twice = next((edge for edge in edges if list(edges).count(edge) > 1), None)
        raise CircuitsError("no edges to patch" if twice is None else f"{twice} is named twice")
    model.validate(pairs)

    title = "corrupting edges" if options.progress else None
    bar = RunsBar(title, examples=len(pairs), runs=len(edge_indices))

    def work(model: HookedModel, batch: PairBatch) -> Float[Tensor, "batch edge"]:
        runner = BatchedCircuitRunner(model, batch, alike=False)
        all_effects = torch.zeros(len(batch), len(edge_indices), device=runner.clean.device)
        done = 0
        for some, effects in single_edge_effects(runner, judge, edge_indices):
            all_effects[:, some] = effects
            done += effects.numel()
            bar.within(done)
        return all_effects

    values = torch.zeros(len(pairs), len(edge_indices))
    with bar:
        for batch, batch_effects in over_batches(model, pairs, work, batch_size=options.batch_size):
            values[batch.index.cpu()] = batch_effects.cpu()
            bar.finish(len(batch))
    return EdgeEffects(layout, tuple(edges), values, judge.name)
