"""Every example's scores of the edges that exist, looked at some edges at a time.

Scores of many examples of a large model do not fit in memory. What is said of them comes from sums
over blocks of edges, and each edge's own figures from its column alone, so a block at a time is
enough. How wide blocks are depends on the number of examples and on nothing else: scores in a file
and the same ones in memory give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.edge_sums import add_by_source, stretches_within
from circuits.graph.layout import Layout
from circuits.graph.scores import EdgeScores
from circuits.runtime import mapped
from circuits.runtime.resume import digest

_READ = 4
"""Steps in which as much as `mapped.BLOCK` is read: 8 MiB each. Larger ones come from the system
again each time, and its pages cost more than reading them.
"""
_LOOKED_AT = 8
"""Steps in which what was read is looked at: 1 MiB each, for what is made of it, often in float64,
then stays in the processor's cache.
"""


@dataclass(frozen=True)
class Summary:
    """What one look at all values says.

    mean: of each edge, float64. total: the sum over examples. largest: of all |values|.
    digest: of the values.
    """

    mean: Float[Tensor, " edge"]
    total: Float[Tensor, " edge"]
    largest: Float[Tensor, ""]
    digest: str


@dataclass(frozen=True, eq=False)
class EdgeValues:
    """Scores of single examples, over the possible edges in matrix order.

    per_example: (n, source, reader), in memory or in a file; or (n, edge), the possible edges
        alone.
    """

    layout: Layout
    per_example: Float[Tensor, "n ..."]

    @classmethod
    def of(cls, scores: EdgeScores) -> EdgeValues:
        """Of scores that were kept example by example."""
        assert scores.per_example is not None
        return cls(scores.layout, scores.per_example)

    def __len__(self) -> int:
        return len(self.per_example)

    @cached_property
    def flat_indices(self) -> Int[Tensor, " edge"]:
        """Where the edges stand in the flattened matrix."""
        return self.layout.mask.flatten().nonzero().flatten()

    @property
    def _width(self) -> int:
        return max(1, mapped.BLOCK // _READ // len(self))

    @property
    def in_one_block(self) -> bool:
        """Whether all are few enough to be looked at, and kept in memory, at once."""
        return len(self.flat_indices) <= mapped.BLOCK // len(self)

    @cached_property
    def _all(self) -> Float[Tensor, "n edge"]:
        return self._at(slice(0, len(self.flat_indices)))

    def _at(self, edges: slice) -> Float[Tensor, "n edge"]:
        if self.per_example.dim() == 2:
            return self.per_example[:, edges]
        matrices, readers = self.per_example.flatten(1), self.layout.shape[1]
        values = torch.empty(len(self), edges.stop - edges.start)
        for stretch, part in stretches_within(self.layout, edges):
            first = stretch.source * readers + stretch.reader
            values[:, part] = matrices[:, first : first + stretch.count]
        mapped.let_go(self.per_example)
        return values

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "n edge"]]]:
        """Which edges, and their scores; all edges in turn."""
        if self.in_one_block:
            yield slice(0, len(self.flat_indices)), self._all
            return
        width = max(1, self._width // _LOOKED_AT)
        for start in range(0, len(self.flat_indices), self._width):
            stop = min(start + self._width, len(self.flat_indices))
            read = self._at(slice(start, stop))
            for first in range(start, stop, width):
                edges = slice(first, min(first + width, stop))
                yield edges, read[:, first - start : edges.stop - start]

    def columns(self, edges: Int[Tensor, " k"]) -> Float[Tensor, "n k"]:
        """Scores of some edges, by their numbers."""
        if self.per_example.dim() == 2:
            return self.per_example[:, edges]
        values = self.per_example.flatten(1)[:, self.flat_indices[edges]].float()
        mapped.let_go(self.per_example)
        return values

    def resampled(self, *weights: Float[Tensor, "m n"]) -> list[Float[Tensor, "m edge"]]:
        """Weighted sums over the examples for several sets of weights, in one walk."""
        if self.in_one_block:
            return [w.to(self._all.dtype) @ self._all for w in weights]
        totals = [torch.empty(len(w), len(self.flat_indices)) for w in weights]
        for edges, values in self.blocks():
            for sums, set_weights in zip(totals, weights, strict=True):
                sums[:, edges] = set_weights.to(values.dtype) @ values
        return totals

    @cached_property
    def summary(self) -> Summary:
        """What one look at all of them says.

        Raises:
            CircuitsError: where a score is not finite.
        """
        # Made before all blocks: small tensors that stay would leave holes where blocks were, and
        # the heap would grow with each.
        mean = torch.empty(len(self.flat_indices), dtype=torch.float64)
        dtype = torch.promote_types(self.per_example.dtype, torch.float32)
        total, largest = torch.empty(len(mean), dtype=dtype), torch.zeros(())
        digests = []
        for edges, values in self.blocks():
            if not torch.isfinite(values).all():
                example = int((~torch.isfinite(values)).any(dim=1).nonzero()[0])
                raise CircuitsError(f"the scores of example {example} are not finite")
            mean[edges] = values.double().mean(dim=0)
            total[edges] = values.sum(dim=0)
            largest = torch.maximum(largest, values.abs().amax())
            digests.append(digest(values))
        together = hashlib.sha256("".join(digests).encode()).hexdigest()
        return Summary(mean, total, largest, together)

    @cached_property
    def by_source(self) -> Float[Tensor, "n source"]:
        """Sum over each source's outgoing edges, float64."""
        totals = torch.zeros(len(self), self.layout.shape[0], dtype=torch.float64)
        for edges, values in self.blocks():
            add_by_source(totals, self.layout, edges, values.double())
        return totals
