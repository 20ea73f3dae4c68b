"""Mean scores and their sampling errors, from sums over blocks of the examples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.graph.blocks import Blocks


@dataclass(frozen=True)
class Sample:
    """Edges (nodes, neurons) that can be chosen, by block of the examples.

    sums: of the scores, of all blocks. sizes: examples of each. kept: the blocks that count.
    candidates: flat places of what can be chosen.
    """

    sums: Float[Tensor, "block choice"]
    sizes: Float[Tensor, " block"]
    kept: Int[Tensor, " kept"]
    candidates: Int[Tensor, " choice"]
    mean: Float[Tensor, " choice"]
    variance: Float[Tensor, " choice"]
    """Of one example's score, unbiased."""
    common: float
    """The variance that all edges share, which moves their mean and no correlation."""

    @classmethod
    def of(cls, blocks: Blocks, candidates: Int[Tensor, " choice"]) -> Sample:
        """From the sums over blocks."""
        sums, sizes = blocks.sums.flatten(1)[:, candidates].double(), blocks.sizes.double()
        return cls._of(sums, sizes, torch.arange(len(sizes)), candidates)

    @classmethod
    def _of(
        cls,
        sums: Float[Tensor, "block choice"],
        sizes: Float[Tensor, " block"],
        kept: Int[Tensor, " kept"],
        candidates: Int[Tensor, " choice"],
    ) -> Sample:
        block_sums, block_sizes = sums[kept], sizes[kept]
        mean = block_sums.sum(dim=0) / block_sizes.sum()
        # A block of c examples has a mean of variance 1 / c, and so weighs c.
        squares = torch.zeros_like(mean)
        for block_sum, size in zip(block_sums, block_sizes.tolist(), strict=True):
            squares += size * (block_sum / size - mean).square()
        offsets = block_sums.mean(dim=1) / block_sizes
        centre = float(block_sums.sum(dim=0).mean() / block_sizes.sum())
        common = float((block_sizes * (offsets - centre).square()).sum() / (len(block_sizes) - 1))
        return cls(sums, sizes, kept, candidates, mean, squares / (len(block_sizes) - 1), common)

    @property
    def examples(self) -> int:
        """Of the blocks that count."""
        return int(self.sizes[self.kept].sum())

    def without(self, block: int) -> Sample:
        """All blocks but one; the sums stay where they are."""
        return self._of(self.sums, self.sizes, self.kept[self.kept != block], self.candidates)

    def error(self, number: float | int) -> Float[Tensor, " choice"]:
        """Standard error of the mean scores of so many examples."""
        return (self.variance / number).sqrt()

    def reliability(self, number: float | int) -> float:
        """Correlation over edges of mean scores of so many examples with those of as many others.

        That of halves by the formula of Spearman and Brown, over all splits of the blocks in two.
        """
        noise = float((self.variance - self.common).mean())
        total = float(self.mean.var(correction=0))
        signal = total - noise / self.examples
        return signal / max(signal + noise / number, 1e-300) if total > 0 else 1.0
