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

    sums: of their scores. sizes: examples of each block. choices: their flat places.
    """

    sums: Float[Tensor, "block choice"]
    sizes: Float[Tensor, " block"]
    candidates: Int[Tensor, " choice"]
    mean: Float[Tensor, " choice"]
    variance: Float[Tensor, " choice"]
    """Of one example's score, unbiased."""

    @classmethod
    def of(cls, blocks: Blocks, candidates: Int[Tensor, " choice"]) -> Sample:
        """From the sums over blocks."""
        return cls._of(
            blocks.sums.flatten(1)[:, candidates].double(), blocks.sizes.double(), candidates
        )

    @classmethod
    def _of(
        cls,
        sums: Float[Tensor, "block choice"],
        sizes: Float[Tensor, " block"],
        candidates: Int[Tensor, " choice"],
    ) -> Sample:
        mean = sums.sum(dim=0) / sizes.sum()
        # A block of c examples has a mean of variance 1 / c, and so weighs c.
        squares = torch.zeros_like(mean)
        for one, size in zip(sums, sizes.tolist(), strict=True):
            squares += size * (one / size - mean).square()
        return cls(sums, sizes, candidates, mean, squares / (len(sizes) - 1))

    @property
    def examples(self) -> int:
        """Of all blocks."""
        return int(self.sizes.sum())

    def without(self, block: int) -> Sample:
        """All blocks but one."""
        rest = torch.arange(len(self.sizes)) != block
        return self._of(self.sums[rest], self.sizes[rest], self.candidates)

    def error(self, number: float | int) -> Float[Tensor, " choice"]:
        """Standard error of the mean scores of so many examples."""
        return (self.variance / number).sqrt()

    def reliability(self, number: float | int) -> float:
        """Correlation over edges of mean scores of so many examples with those of as many others.

        That of halves by the formula of Spearman and Brown, over all splits of the blocks in two.
        """
        noise = float((self.variance - self._common()).mean())
        total = float(self.mean.var(correction=0))
        signal = total - noise / self.examples
        return signal / max(signal + noise / number, 1e-300) if total > 0 else 1.0

    def _common(self) -> float:
        """The variance that all edges share, which moves their mean and no correlation."""
        offsets = self.sums.mean(dim=1) / self.sizes
        centre = float(self.sums.sum(dim=0).mean() / self.sizes.sum())
        return float((self.sizes * (offsets - centre).square()).sum() / (len(self.sizes) - 1))
