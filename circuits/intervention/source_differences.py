"""What sources give in a run less what they give in the reference, and weighted sums of it."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from circuits.models import SourceActivations

Answers = tuple[Int[Tensor, " token"], Int[Tensor, " token"]]  # example and position of each
Sums = Float[Tensor, "reader _ token d_model"]  # for each copy, or one for all


class SourceDifferences:
    """Differences of some sources, made when a reader first asks for them.

    A token is a position of an example: any, or those that `at` names. Differences stand side by
    side, so that the sums of a reader are one matrix product.
    """

    def __init__(
        self,
        live: SourceActivations,
        reference: SourceActivations,
        rows: Sequence[int],
        *,
        copies: int = 1,
        at: Answers | None = None,
        most: int | None = None,
    ) -> None:
        """rows: of the sources, in the order in which they write.

        copies: of the reference's batch in the run of `live`, one after another.
        most: numbers that may be kept; differences that take more are made again for every sum.
        """
        self.rows, self.copies = rows, copies
        self._runs, self._at = (live, reference), at
        n, length, width = reference.inputs[0].shape
        tokens = n * length if at is None else len(at[0])
        self._keeps = most is None or len(rows) * copies * tokens * width <= most
        self._kept: Tensor | None = None
        self._n_kept = 0

    def sums(self, weights: Int8[Tensor, "reader copy source"], stop: int) -> Sums | None:
        """Each reader's sum over the sources before row `stop`, in each copy.

        Of a run that is not copied, the weights may still be: one sum for each. None where all
        weights are 0.
        """
        n = bisect_left(self.rows, stop)
        if not bool(weights[:, :, :n].any()):
            return None
        weights = weights[:, :, :n]
        if not self._keeps:
            return self._one_by_one(weights)
        if self._kept is None:
            difference = self._difference(0)
            self._kept = difference.new_empty(len(self.rows), *difference.shape)
        for index in range(self._n_kept, n):
            self._difference(index, self._kept[index])
        self._n_kept = max(self._n_kept, n)
        differences = self._kept[:n]
        spec = "ckr,rltd->cktd" if self.copies == 1 else "ckr,rktd->cktd"
        reader_sums: Tensor = torch.einsum(spec, weights.to(differences), differences)
        return reader_sums

    def tensors(self) -> Iterator[Tensor]:
        """The differences that are kept."""
        if self._kept is not None:
            yield self._kept

    def _one_by_one(self, weights: Int8[Tensor, "reader copy source"]) -> Sums:
        total = None
        for index in weights.flatten(0, 1).any(dim=0).nonzero().flatten().tolist():
            difference = self._difference(index)
            part = weights[:, :, index, None, None].to(difference) * difference
            total = part if total is None else total.add_(part)
        assert total is not None
        return total

    def _difference(
        self, index: int, out: Float[Tensor, "copy token d_model"] | None = None
    ) -> Float[Tensor, "copy token d_model"]:
        (live, weight), (reference, _) = (run.written(self.rows[index]) for run in self._runs)
        # A head's z are fewer numbers than what it writes.
        live, reference = self._tokens(live, self.copies), self._tokens(reference, 1)
        if weight is None:
            return torch.sub(live, reference, out=out)
        return torch.matmul(live - reference, weight, out=out)

    def _tokens(self, value: Tensor, copies: int) -> Float[Tensor, "copy token width"]:
        value = value.unflatten(0, (copies, -1))
        return value.flatten(1, 2) if self._at is None else value[:, self._at[0], self._at[1]]


class SettledSums:
    """Sums over sources that are as they were in a run that is settled, whatever the circuit.

    Most readers lack the same edges in all circuits of a search's next trials, and in those that
    follow: their sums are kept, as many as there is room for.
    """

    def __init__(self, differences: SourceDifferences, most: int) -> None:
        """most: numbers that may be kept."""
        self._differences, self._room = differences, most
        self._kept: OrderedDict[tuple[tuple[int, ...], bytes], Sums] = OrderedDict()

    def sums(
        self, columns: tuple[int, ...], weights: Int8[Tensor, "reader copy source"]
    ) -> Sums | None:
        """Each reader's sum over the first sources; one for all copies where they weigh the same.

        columns: of the readers.
        """
        n = weights.shape[2]
        if not bool((weights == weights[:, :1]).all()):
            return self._differences.sums(weights, n)
        weights = weights[:, :1]
        key = columns, weights.numpy().tobytes()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        reader_sums = self._differences.sums(weights, n)
        if reader_sums is None:  # takes no room, so that nothing would ever drop it
            return None
        self._kept[key] = reader_sums
        self._room -= reader_sums.numel()
        while self._room < 0:
            self._room += self._kept.popitem(last=False)[1].numel()
        return reader_sums

    def tensors(self) -> Iterator[Tensor]:
        """The sums that are kept, and the differences that they are made from."""
        yield from self._differences.tensors()
        yield from self._kept.values()
