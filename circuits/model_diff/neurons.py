"""How single neurons changed between two models, in one pass and without keeping documents.

A neuron is an input of an MLP's output matrix. Its activation is averaged over each document's
positions; change = the mean over documents of (model - against), paired. Kept are sums over
documents, in `GROUPS` groups of them: memory grows with the neurons, not with the documents.

- **changed**: a paired t test over documents, Benjamini-Hochberg over all neurons, q <= 5 %; the
  interval of the change is Student's.
- **effect**: the change in units of the activation's own spread over tokens in `against` (Glass's
  delta: Glass 1976).
- **changed substantially**: changed, and |effect| >= 0.5, a medium effect by Cohen (1988).
- **polarity flip**: changed substantially, with means of opposite sign.

Intervals of shares leave out one group of documents at a time (delete-a-group jackknife).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.model_diff.averages import Averages
from circuits.model_diff.trace import Neurons
from circuits.runtime.files import number
from circuits.statistics import (
    FALSE_DISCOVERY_RATE,
    LEVEL,
    RESOLUTION,
    benjamini_hochberg,
    jackknife_interval,
    student_quantile,
    student_tail,
)

SUBSTANTIAL = 0.5
GROUPS = 10
TOP = 50


@dataclass(frozen=True)
class NeuronChanges:
    """Every neuron's mean activation in two models, and what changed.

    effect: change / spread over tokens in `against`. error: standard error of the change.
    left_out: a row a group of documents left out; the share of neurons that changed substantially,
        then of flips. Empty with fewer documents than groups need.
    """

    model: Float[Tensor, "layer neuron"]
    base: Float[Tensor, "layer neuron"]
    change: Float[Tensor, "layer neuron"]
    error: Float[Tensor, "layer neuron"]
    effect: Float[Tensor, "layer neuron"]
    q: Float[Tensor, "layer neuron"]
    documents: int
    left_out: Float[Tensor, "group measure"]

    @property
    def changed(self) -> Bool[Tensor, "layer neuron"]:
        """At a false discovery rate of 5 %."""
        return self.q <= FALSE_DISCOVERY_RATE

    @property
    def substantial(self) -> Bool[Tensor, "layer neuron"]:
        """Changed, by at least half the activation's own spread."""
        return self.changed & (self.effect.abs() >= SUBSTANTIAL)

    @property
    def flipped(self) -> Bool[Tensor, "layer neuron"]:
        """Changed substantially, from one sign to the other."""
        return self.substantial & (self.model * self.base < 0)

    @property
    def shares(self) -> dict[str, Averages]:
        """Shares of all neurons: `substantial` and `flipped`, with their intervals."""
        masks = {"substantial": self.substantial, "flipped": self.flipped}
        value = torch.stack([mask.double().mean() for mask in masks.values()])
        low, high = jackknife_interval(value, self.left_out)
        return {
            name: Averages(value[place], low[place].clamp_min(0), high[place].clamp_max(1))
            for place, name in enumerate(masks)
        }

    def top(self, count: int = TOP) -> list[dict[str, Any]]:
        """The neurons with the largest |change|, those that changed for sure first."""
        size = self.change.abs() / self.change.abs().max().clamp_min(1e-300)
        order = (2 * self.changed + size).flatten().argsort(descending=True, stable=True)
        reach = student_quantile(LEVEL, self.documents - 1) * self.error
        width = self.change.shape[1]
        rows = []
        for place in order[:count].tolist():
            at = divmod(place, width)
            rows.append(
                {
                    "neuron": f"m{at[0]}.n{at[1]}",
                    "model": number(self.model[at]),
                    "against": number(self.base[at]),
                    "change": number(self.change[at]),
                    "low": number(self.change[at] - reach[at]),
                    "high": number(self.change[at] + reach[at]),
                    "effect": number(self.effect[at]),
                    "q": number(self.q[at]),
                    "flipped": bool(self.flipped[at]),
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """JSON form: counts, shares overall and by layer, the largest changes."""
        return {
            "neurons": self.change.numel(),
            "documents": self.documents,
            "changed": int(self.changed.sum()),
            "rose": int((self.changed & (self.change > 0)).sum()),
            "fell": int((self.changed & (self.change < 0)).sum()),
            "substantial": int(self.substantial.sum()),
            "flipped": int(self.flipped.sum()),
            "substantial_effect": SUBSTANTIAL,
            "shares": {name: share.to_dict() for name, share in self.shares.items()},
            "by_layer": {
                "changed": self.changed.sum(dim=1).tolist(),
                "substantial": self.substantial.sum(dim=1).tolist(),
                "flipped": self.flipped.sum(dim=1).tolist(),
            },
            "top": self.top(),
        }


class NeuronSums:
    """Sums over documents by group, and of squares over tokens in `against`."""

    def __init__(self, documents: int) -> None:
        if documents < 2:
            raise CircuitsError("neurons: a paired test needs at least two documents")
        self.documents = documents
        self.groups = min(GROUPS, documents)
        self._sums: Float[Tensor, "measure group layer neuron"] | None = None
        self._square: Float[Tensor, "layer neuron"] | None = None

    def add(self, index: Int[Tensor, " batch"], model: list[Neurons], base: list[Neurons]) -> None:
        """Take in a batch; both lists hold a layer each. `index`: places in the set."""
        groups = (index % self.groups).to(model[0].mean.device)
        if self._sums is not None and self._square is not None:  # read from a file, perhaps
            self._sums, self._square = self._sums.to(groups.device), self._square.to(groups.device)
        shape = (3, self.groups, len(model), model[0].mean.shape[1])
        if self._sums is None:
            self._sums = torch.zeros(shape, dtype=torch.float64, device=groups.device)
            self._square = torch.zeros(shape[2:], dtype=torch.float64, device=groups.device)
        assert self._square is not None
        for layer, (one, other) in enumerate(zip(model, base, strict=True)):
            values, others = one.mean.double(), other.mean.double()
            for place, part in enumerate((values, others, (values - others).square())):
                self._sums[place, :, layer].index_add_(0, groups, part)
            self._square[layer] += other.square.double().sum(dim=0)

    def state(self) -> dict[str, Tensor]:
        """The sums, by name; none before the first batch."""
        if self._sums is None or self._square is None:
            return {}
        return {"neurons.sums": self._sums, "neurons.square": self._square}

    def restore(self, held: Mapping[str, Tensor]) -> bool:
        """Take in what `state` gave; whether there was anything."""
        self._sums, self._square = held.get("neurons.sums"), held.get("neurons.square")
        return self._sums is not None

    def changes(self) -> NeuronChanges:
        """Tests and shares over all neurons of all documents so far."""
        assert self._sums is not None and self._square is not None, "no batch was added"
        sums, n = self._sums.cpu(), self.documents
        counts = torch.arange(n).remainder(self.groups).bincount(minlength=self.groups)
        mean, mean_base, change, error = _statistics(sums.sum(dim=1), n)
        scale = torch.maximum(mean.abs().max(), mean_base.abs().max())
        still = change.abs() <= RESOLUTION * scale  # rounding of two equal runs
        change, error = torch.where(still, 0.0, change), torch.where(still, 0.0, error)
        t = torch.where(still, 0.0, change.abs() / error)
        q = benjamini_hochberg(student_tail(t.flatten(), n - 1)).view_as(t)
        spread = (self._square.cpu() / n - mean_base.square()).clamp_min(0).sqrt()
        found = NeuronChanges(
            mean,
            mean_base,
            change,
            error,
            torch.where(still, 0.0, change / spread.clamp_min(1e-12)),
            q,
            n,
            torch.zeros(0, 2, dtype=torch.float64),
        )
        # The test's bar on |t|, and the spread, stay where all documents put them.
        bar = float(t[found.changed].min()) if bool(found.changed.any()) else math.inf
        rows = []
        for group in range(self.groups):
            rest = n - int(counts[group])
            one, other, moved, off = _statistics(sums.sum(dim=1) - sums[:, group], rest)
            sure = (moved.abs() >= bar * off) & ~still if rest > 1 else found.changed
            large = sure & (moved.abs() >= SUBSTANTIAL * spread)
            flips = large & (one * other < 0)
            rows.append(torch.stack([large.double().mean(), flips.double().mean()]))
        return NeuronChanges(**{**vars(found), "left_out": torch.stack(rows)})


def _statistics(
    sums: Float[Tensor, "measure layer neuron"], count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means of both models, mean change, and its standard error over documents."""
    model, base, square = sums / count
    change = model - base
    variance = (square - change.square()).clamp_min(0) * count / max(1, count - 1)
    return model, base, change, (variance / count).sqrt()
