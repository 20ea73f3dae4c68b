"""Which layers fine-tuning changed most, by several criteria, and whether the criteria agree.

| criterion | a layer's value |
|---|---|
| attention-kl | mean over its heads of KL(model || against), nats |
| entropy | mean over its heads of |mean change of entropy|, nats |
| hidden-state | relative change of the block's own update |
| edges | sum of |change of mean edge score|, half to the source's layer, half to the reader's |

Intervals: bootstrap-t of means (attention-kl, hidden-state); of the others, which are sums of
absolute means, the delete-d jackknife on random halves. Percentiles of resamples would not do:
noise lifts a sum of absolute means, and a resample has the sample's noise and its own.

The change of the hidden state itself only accumulates with depth and would name the last layers.

Agreement is Kendall's tau-b of the two rankings of the layers. Its interval resamples documents
(estimate +- 1.96 bootstrap standard errors, within -1 and 1: tau takes few values): what another
sample of documents would give for these layers. p asks the other question, whether so few layers
could agree so well by chance: the share of random orders of the layers with |tau| as large.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.graph import EdgeScores
from circuits.graph.paired import require_paired
from circuits.model_diff.averages import Averages, averages
from circuits.runtime.files import number
from circuits.statistics import (
    generator,
    normal_interval,
    resample_weights,
    subset_interval,
    subset_weights,
)

Criterion = Literal["attention-kl", "entropy", "hidden-state"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
EDGES = "edges"
SUBSETS = 400
_ORDERS = 9999


@dataclass(frozen=True)
class LayerValues:
    """One criterion's value for each layer, its interval, and each resample's value.

    low, high: 95 %, for what so many examples give on average: where noise adds to a value, as it
        does to a sum of absolute means, the interval is not for the value without that noise.
    examples: how many there were (documents, or examples of edge scores).
    """

    value: Float[Tensor, " layer"]
    low: Float[Tensor, " layer"]
    high: Float[Tensor, " layer"]
    resampled: Float[Tensor, "resample layer"]
    examples: int

    @classmethod
    def of(
        cls,
        statistic: Callable[[Float[Tensor, "m n"]], Float[Tensor, "m layer"]],
        examples: int,
        *,
        n_resamples: int,
        seed: int,
    ) -> LayerValues:
        """Of any statistic, from weights of the examples, a row of which sums to 1.

        The interval is `subset_interval`'s, on random halves of the examples.
        """
        value = statistic(torch.full((1, examples), 1 / examples, dtype=torch.float64))[0]
        halves = subset_weights(examples, SUBSETS, seed=seed + 1)
        low, high = subset_interval(value, statistic(halves), halves)
        weights = resample_weights(examples, n_resamples, seed=seed)
        return cls(value, low.clamp_min(0), high, statistic(weights), examples)

    @classmethod
    def of_means(
        cls, values: Float[Tensor, "n layer"], *, n_resamples: int, seed: int
    ) -> LayerValues:
        """Of means over the examples, with their bootstrap-t interval."""
        means = averages(values, n_resamples=n_resamples, seed=seed)
        weights = resample_weights(len(values), n_resamples, seed=seed)
        return cls(means.value, means.low, means.high, weights @ values.double(), len(values))

    def order(self) -> list[int]:
        """Layers, the largest value first."""
        return self.value.argsort(descending=True, stable=True).tolist()

    def critical(self, count: int) -> list[int]:
        """The `count` layers of largest value, in their order in the model; none whose is 0."""
        return sorted(layer for layer in self.order()[:count] if self.value[layer] > 0)

    def to_dict(self, count: int) -> dict[str, Any]:
        """JSON form. count: how many layers are critical.

        inclusion: share of resamples in which a layer is among them, and changed at all.
        """
        ranks = self.resampled.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        inclusion = ((ranks < count) & (self.resampled > 0)).double().mean(dim=0)
        return {
            "examples": self.examples,
            "value": self.value.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "order": self.order(),
            "critical": self.critical(count),
            "inclusion": inclusion.tolist(),
        }


@dataclass(frozen=True)
class CriticalLayers:
    """Layers by each criterion, and the criteria's agreement.

    tau: by pair of criteria; NaN where one of them is the same for all layers. p: see the module.
    """

    values: Mapping[str, LayerValues]
    tau: Mapping[tuple[str, str], Averages]
    p: Mapping[tuple[str, str], float]

    @property
    def critical(self) -> int:
        """How many layers count as critical: a quarter of them, at least one."""
        return max(1, len(next(iter(self.values.values())).value) // 4)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "layers": {name: one.to_dict(self.critical) for name, one in self.values.items()},
            "agreement": [
                {"criteria": list(pair), "p": number(self.p[pair]), "tau": tau.to_dict()}
                for pair, tau in self.tau.items()
            ],
        }


def critical_layers(values: Mapping[str, LayerValues], *, seed: int = 0) -> CriticalLayers:
    """Compare the criteria, two by two."""
    tau, p = {}, {}
    for one, other in combinations(values, 2):
        first, second = values[one], values[other]
        value = kendall(first.value[None], second.value[None])
        both = min(len(first.resampled), len(second.resampled))
        replicates = kendall(first.resampled[:both], second.resampled[:both])[:, None]
        low, high = normal_interval(value, replicates)
        tau[one, other] = Averages(value[0], low[0].clamp(-1, 1), high[0].clamp(-1, 1))
        draws = torch.rand(_ORDERS, len(first.value), generator=generator(seed))
        orders = draws.argsort(dim=1)
        chance = kendall(first.value[None], second.value[orders])
        as_large = (chance.abs() >= value.abs() - 1e-12).sum()
        p[one, other] = (
            float((as_large + 1) / (_ORDERS + 1)) if bool(value.isfinite()) else float("nan")
        )
    return CriticalLayers(values, tau, p)


def kendall(
    x: Float[Tensor, "#row layer"], y: Float[Tensor, "#row layer"]
) -> Float[Tensor, " row"]:
    """Kendall's tau-b of each pair of rows (Kendall 1945); NaN where a row is constant.

    Ours, since `scipy.stats.kendalltau` takes a row at a time: 870 ms instead of 2 for 1,000 rows
    of 12 layers.
    """
    first, second = torch.triu_indices(x.shape[1], x.shape[1], offset=1)
    a = (x[:, first] - x[:, second]).sign().double()
    b = (y[:, first] - y[:, second]).sign().double()
    scale = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    return torch.where(scale > 0, (a * b).sum(dim=1) / scale, torch.nan)


def edge_change(
    model: EdgeScores,
    base: EdgeScores,
    *,
    names: tuple[str, str] = ("model", "against"),
    n_resamples: int = 1000,
    seed: int = 0,
) -> LayerValues:
    """The `edges` criterion, from two score files kept per example.

    Resampled with the same seed as the documents, so in step with them where both are the same
    examples. Raises CircuitsError for scores that cannot be compared (`require_paired`), by name.
    """
    require_paired([base, model], names[::-1])
    assert model.per_example is not None and base.per_example is not None
    layout = model.layout
    places = layout.mask.nonzero()
    change = (model.per_example - base.per_example)[:, layout.mask].double()
    shares = torch.zeros(len(places), layout.n_layers, dtype=torch.float64)
    for nodes, column in ((layout.source_nodes, 0), (layout.reader_nodes, 1)):
        layers = torch.tensor([-1 if node.layer is None else node.layer for node in nodes])
        of = layers[places[:, column]]
        rows = (of >= 0).nonzero()[:, 0]
        shares[rows, of[rows]] += 0.5

    def by_layer(weights: Float[Tensor, "m n"]) -> Float[Tensor, "m layer"]:
        parts = weights.split(max(1, 2**22 // len(places)))
        return torch.cat([(part @ change).abs() @ shares for part in parts])

    return LayerValues.of(by_layer, len(change), n_resamples=n_resamples, seed=seed)
