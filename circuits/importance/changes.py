"""How much each layer changed, with intervals and with each resample's value.

Intervals: bootstrap-t of means; of sums of absolute means, the delete-d jackknife on random halves.
Percentiles of resamples would not do there: noise lifts a sum of absolute means, and a resample has
the sample's noise and its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.graph import EdgeScores, Layout
from circuits.graph.edge_values import EdgeValues
from circuits.graph.paired import require_paired
from circuits.importance.layers import LayerImportance
from circuits.runtime.result_file import AsList, Record
from circuits.statistics import resample_weights, subset_interval, subset_weights
from circuits.statistics.estimate import Estimates, mean_estimates

SUBSETS = 400


class LayerChanges(Record):
    """How much each layer changed by one criterion.

    criterion: what was measured.
    values: by layer, at least 0, with 95 % intervals for what so many examples give on average:
        where noise adds to a value, as it does to a sum of absolute means, the interval is not for
        the value without that noise. n: documents, or examples of edge scores.
    critical: the layers of largest value, in the order of the model; none whose value is 0.
    inclusion: share of resamples in which a layer is among them, and changed at all.
    """

    criterion: str
    values: Estimates
    critical: tuple[int, ...]
    inclusion: Annotated[Float[Tensor, " layer"], AsList()]

    @property
    def importance(self) -> LayerImportance:
        """The values without their intervals, to choose layers by."""
        return LayerImportance(self.criterion, tuple(self.values.value.tolist()))


@dataclass(frozen=True)
class ResampledChanges:
    """How much each layer changed, and what it would be in each resample of the examples."""

    values: Estimates
    resampled: Float[Tensor, "resample layer"]

    @classmethod
    def of(
        cls,
        statistic: Callable[[Float[Tensor, "m n"]], Float[Tensor, "m layer"]],
        n: int,
        *,
        n_resamples: int,
        seed: int,
    ) -> ResampledChanges:
        """Of any statistic of the examples.

        Args:
            statistic: from weights of the examples, whose rows sum to 1, to the change of each
                layer.
            n: how many examples.
            n_resamples: bootstrap resamples.
            seed: of the resamples.

        Returns:
            The changes with their intervals and resamples.
        """
        value = statistic(torch.full((1, n), 1 / n, dtype=torch.float64))[0]
        halves = subset_weights(n, SUBSETS, seed=seed + 1)
        low, high = subset_interval(value, statistic(halves), halves)
        weights = resample_weights(n, n_resamples, seed=seed)
        return cls(Estimates(value, low.clamp_min(0), high, n), statistic(weights))

    @classmethod
    def of_means(
        cls, values: Float[Tensor, "n layer"], *, n_resamples: int, seed: int
    ) -> ResampledChanges:
        """Of means over the examples.

        Args:
            values: the change of each layer on each example.
            n_resamples: bootstrap resamples.
            seed: of the resamples.

        Returns:
            The mean changes with their intervals and resamples.
        """
        means = mean_estimates(values, n_resamples=n_resamples, seed=seed)
        weights = resample_weights(len(values), n_resamples, seed=seed)
        return cls(means, weights @ values.double())

    def summary(self, criterion: str, n_critical: int) -> LayerChanges:
        """What is kept of it.

        Args:
            criterion: the name of what was measured.
            n_critical: how many layers to call critical.

        Returns:
            The changes, the critical layers, and how often each layer is among them.
        """
        ranks = self.resampled.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        inclusion = ((ranks < n_critical) & (self.resampled > 0)).double().mean(dim=0)
        importance = LayerImportance(criterion, tuple(self.values.value.tolist()))
        return LayerChanges(
            criterion=criterion,
            values=self.values,
            critical=importance.largest(n_critical),
            inclusion=inclusion,
        )


def edge_change(
    model: EdgeScores,
    base: EdgeScores,
    *,
    names: tuple[str, str] = ("model", "base"),
    n_resamples: int = 1000,
    seed: int = 0,
) -> ResampledChanges:
    """How much the edge scores of each layer changed: the criterion `edges` of `diff_models`.

    A layer's value is the sum of |change of mean score| over edges, half of it to the layer of the
    edge's source and half to that of its reader.

    Args:
        model: scores of the fine-tuned model, kept per example.
        base: scores of the base on the same examples, kept per example.
        names: what to call the two in errors.
        n_resamples: bootstrap resamples. With the same seed they are those of the documents, so in
            step with the other criteria where both are the same examples.
        seed: of the resamples.

    Returns:
        The change of each layer, in the unit of the scores.

    Raises:
        CircuitsError: where the scores cannot be compared (`require_paired`).
    """
    require_paired([base, model], names[::-1])
    now, then = EdgeValues.of(model), EdgeValues.of(base)
    edge_index = model.layout.mask.nonzero()  # edge (source, reader)

    def by_layer(weights: Float[Tensor, "m n"]) -> Float[Tensor, "m layer"]:
        totals = torch.zeros(len(weights), model.layout.n_layers, dtype=torch.float64)
        for (edges, new), (_, old) in zip(now.blocks(), then.blocks(), strict=True):
            change, shares = (new - old).double(), _shares(model.layout, edge_index[edges])
            at_once = max(1, 2**22 // change.shape[1])
            for part, sums in zip(weights.split(at_once), totals.split(at_once), strict=True):
                sums += (part @ change).abs() @ shares
        return totals

    return ResampledChanges.of(by_layer, len(now), n_resamples=n_resamples, seed=seed)


def _shares(layout: Layout, edges: Int[Tensor, "edge 2"]) -> Float[Tensor, "edge layer"]:
    """How much of each edge, given by source and reader, is a layer's."""
    shares = torch.zeros(len(edges), layout.n_layers, dtype=torch.float64)
    for nodes, column in ((layout.source_nodes, 0), (layout.reader_nodes, 1)):
        layers = torch.tensor([-1 if node.layer is None else node.layer for node in nodes])
        layer_of_edge = layers[edges[:, column]]
        within = (layer_of_edge >= 0).nonzero()[:, 0]
        shares[within, layer_of_edge[within]] += 0.5
    return shares
