"""How single neurons changed between two models, in one pass and without keeping documents.

A neuron is an input of an MLP's output matrix. Its activation is averaged over each document's
positions; change = the mean over documents of (model - base), paired. Kept are sums over
documents, in `GROUPS` groups of them: memory grows with the neurons, not with the documents.

- **changed**: a paired t test over documents, Benjamini-Hochberg over all neurons, q <= 5 %; the
  interval of the change is Student's.
- **effect**: the change in units of the activation's own spread over tokens in the base (Glass's
  delta: Glass 1976).
- **changed substantially**: changed, and |effect| >= 0.5, a medium effect by Cohen (1988).
- **polarity flip**: changed substantially, with means of opposite sign.

Intervals of fractions leave out one group of documents at a time (delete-a-group jackknife).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.model_diff.trace import Neurons
from circuits.runtime.result_file import MaybeUndefined, Record
from circuits.statistics import (
    FALSE_DISCOVERY_RATE,
    LEVEL,
    RESOLUTION,
    benjamini_hochberg,
    jackknife_interval,
    student_quantile,
    student_tail,
)
from circuits.statistics.estimate import Estimate, Estimates

SUBSTANTIAL = 0.5
GROUPS = 10
TOP = 50


class NeuronChange(Record):
    """One neuron.

    neuron: its name, `m2.n7` for neuron 7 of layer 2. model, base: mean activations.
    change: model less base, with Student's interval over documents. effect: the change in units of
    the activation's spread over tokens in the base. q: false discovery rate at which it changed.
    flipped: whether it changed substantially, from one sign to the other.
    """

    neuron: str
    model: MaybeUndefined
    base: MaybeUndefined
    change: Estimate
    effect: MaybeUndefined
    q: MaybeUndefined
    flipped: bool

    @property
    def changed(self) -> bool:
        """At a false discovery rate of 5 %."""
        return self.q <= FALSE_DISCOVERY_RATE


class NeuronCounts(Record):
    """How many neurons changed, by layer."""

    changed: tuple[int, ...]
    substantial: tuple[int, ...]
    flipped: tuple[int, ...]


class NeuronChanges(Record):
    """How many neurons of the model changed, and those that changed most.

    n_neurons, n_documents: how many were tested, on how many documents.
    n_changed: of which activation rose in n_rose and fell in n_fell.
    n_substantial, n_flipped: as the module defines them. substantial_effect: the bar on |effect|.
    substantial_fraction, flipped_fraction: of all neurons.
    top: the neurons of largest |change|, first those whose change is significant.
    """

    n_neurons: int
    n_documents: int
    n_changed: int
    n_rose: int
    n_fell: int
    n_substantial: int
    n_flipped: int
    substantial_effect: float
    substantial_fraction: Estimate
    flipped_fraction: Estimate
    by_layer: NeuronCounts
    top: tuple[NeuronChange, ...]


@dataclass(frozen=True)
class NeuronStatistics:
    """Every neuron's mean activation in two models, and the test of its change.

    effect: change / spread over tokens in the base. error: standard error of the change.
    left_out: a row for each group of documents that is left out; the fraction of neurons that
        changed substantially, then of flips.
    """

    model: Float[Tensor, "layer neuron"]
    base: Float[Tensor, "layer neuron"]
    change: Float[Tensor, "layer neuron"]
    error: Float[Tensor, "layer neuron"]
    effect: Float[Tensor, "layer neuron"]
    q: Float[Tensor, "layer neuron"]
    n_documents: int
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

    def fractions(self) -> Estimates:
        """The fraction of all neurons that changed substantially, then of those that flipped."""
        value = torch.stack([mask.double().mean() for mask in (self.substantial, self.flipped)])
        low, high = jackknife_interval(value, self.left_out)
        return Estimates(value, low.clamp_min(0), high.clamp_max(1), self.n_documents)

    def top(self, count: int = TOP) -> tuple[NeuronChange, ...]:
        """The neurons with the largest |change|, first those whose change is significant."""
        size = self.change.abs() / self.change.abs().max().clamp_min(1e-300)
        order = (2 * self.changed + size).flatten().argsort(descending=True, stable=True)
        reach = student_quantile(LEVEL, self.n_documents - 1) * self.error
        low, high = self.change - reach, self.change + reach
        changes = Estimates(self.change, low, high, self.n_documents)
        width = self.change.shape[1]
        neurons = []
        for index in order[:count].tolist():
            position = divmod(index, width)
            neurons.append(
                NeuronChange(
                    neuron=f"m{position[0]}.n{position[1]}",
                    model=float(self.model[position]),
                    base=float(self.base[position]),
                    change=changes[position],
                    effect=float(self.effect[position]),
                    q=float(self.q[position]),
                    flipped=bool(self.flipped[position]),
                )
            )
        return tuple(neurons)

    def summary(self) -> NeuronChanges:
        """Counts and fractions over all neurons and by layer, and the largest changes."""
        substantial, flipped = self.fractions()
        return NeuronChanges(
            n_neurons=self.change.numel(),
            n_documents=self.n_documents,
            n_changed=int(self.changed.sum()),
            n_rose=int((self.changed & (self.change > 0)).sum()),
            n_fell=int((self.changed & (self.change < 0)).sum()),
            n_substantial=int(self.substantial.sum()),
            n_flipped=int(self.flipped.sum()),
            substantial_effect=SUBSTANTIAL,
            substantial_fraction=substantial,
            flipped_fraction=flipped,
            by_layer=NeuronCounts(
                changed=tuple(self.changed.sum(dim=1).tolist()),
                substantial=tuple(self.substantial.sum(dim=1).tolist()),
                flipped=tuple(self.flipped.sum(dim=1).tolist()),
            ),
            top=self.top(),
        )


class NeuronSums:
    """Sums over documents by group, and of squares over tokens in the base."""

    def __init__(self, n_documents: int) -> None:
        if n_documents < 2:
            raise CircuitsError("neurons: a paired test needs at least two documents")
        self.n_documents = n_documents
        self.groups = min(GROUPS, n_documents)
        self._sums: Float[Tensor, "measure group layer neuron"] | None = None
        self._square: Float[Tensor, "layer neuron"] | None = None

    def add(self, index: Int[Tensor, " batch"], model: list[Neurons], base: list[Neurons]) -> None:
        """Add a batch; both lists hold a layer each. index: of its documents in the set."""
        groups = (index % self.groups).to(model[0].mean.device)
        if self._sums is not None and self._square is not None:  # read from a file, perhaps
            self._sums, self._square = self._sums.to(groups.device), self._square.to(groups.device)
        shape = (3, self.groups, len(model), model[0].mean.shape[1])
        if self._sums is None:
            self._sums = torch.zeros(shape, dtype=torch.float64, device=groups.device)
            self._square = torch.zeros(shape[2:], dtype=torch.float64, device=groups.device)
        assert self._square is not None
        for layer, (tuned, original) in enumerate(zip(model, base, strict=True)):
            x, y = tuned.mean.double(), original.mean.double()
            for measure, values in enumerate((x, y, (x - y).square())):
                self._sums[measure, :, layer].index_add_(0, groups, values)
            self._square[layer] += original.square.double().sum(dim=0)

    def state(self) -> dict[str, Tensor]:
        """The sums, by name; none before the first batch."""
        if self._sums is None or self._square is None:
            return {}
        return {"neurons.sums": self._sums, "neurons.square": self._square}

    def restore(self, state: Mapping[str, Tensor]) -> bool:
        """Go on from what `state` gave; says whether there was anything."""
        self._sums, self._square = state.get("neurons.sums"), state.get("neurons.square")
        return self._sums is not None

    def statistics(self) -> NeuronStatistics:
        """The tests of all neurons, over all documents."""
        assert self._sums is not None and self._square is not None, "no batch was added"
        sums, n = self._sums.cpu(), self.n_documents
        counts = torch.arange(n).remainder(self.groups).bincount(minlength=self.groups)
        mean, mean_base, change, error = _statistics(sums.sum(dim=1), n)
        scale = torch.maximum(mean.abs().max(), mean_base.abs().max())
        still = change.abs() <= RESOLUTION * scale  # rounding of two equal runs
        change, error = torch.where(still, 0.0, change), torch.where(still, 0.0, error)
        t = torch.where(still, 0.0, change.abs() / error)
        q = benjamini_hochberg(student_tail(t.flatten(), n - 1)).view_as(t)
        spread = (self._square.cpu() / n - mean_base.square()).clamp_min(0).sqrt()
        full_statistics = NeuronStatistics(
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
        bar = (
            float(t[full_statistics.changed].min())
            if bool(full_statistics.changed.any())
            else math.inf
        )
        left_out = []
        for group in range(self.groups):
            rest = n - int(counts[group])
            x, y, moved, error = _statistics(sums.sum(dim=1) - sums[:, group], rest)
            changed = (moved.abs() >= bar * error) & ~still if rest > 1 else full_statistics.changed
            substantial = changed & (moved.abs() >= SUBSTANTIAL * spread)
            flipped = substantial & (x * y < 0)
            left_out.append(torch.stack([substantial.double().mean(), flipped.double().mean()]))
        return replace(full_statistics, left_out=torch.stack(left_out))


def _statistics(
    sums: Float[Tensor, "measure layer neuron"], count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means of both models, mean change, and its standard error over documents."""
    model, base, square = sums / count
    change = model - base
    variance = (square - change.square()).clamp_min(0) * count / max(1, count - 1)
    return model, base, change, (variance / count).sqrt()
