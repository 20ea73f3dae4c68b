"""Sums of scores over random blocks of the examples: what is left of examples when none is kept.

How far mean scores depend on the examples can be told from the sums over a few blocks of them,
which take as much memory whatever the number of examples is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.runtime.mapped import columns

COUNT = 16
"""Blocks that running sums are kept of; of fewer examples, each is one."""


@dataclass(frozen=True)
class Blocks:
    """Sums over disjoint blocks of the examples.

    sums: one score tensor a block. sizes: how many examples each is over, at least 1.
    """

    sums: Float[Tensor, "block ..."]
    sizes: Int[Tensor, " block"]

    @property
    def examples(self) -> int:
        """Of all blocks together."""
        return int(self.sizes.sum())

    @property
    def means(self) -> Float[Tensor, "block ..."]:
        """Mean scores of each block, float64."""
        return self.sums.double() / self.sizes.view(-1, *(1,) * (self.sums.dim() - 1))


def block_of(examples: int, blocks: int = COUNT) -> Int[Tensor, " example"]:
    """Which block each example is in: sizes differ by 1 at most, and no order of them matters.

    Every `blocks` examples in a row are spread over all blocks at random, always in the same way:
    more examples leave the blocks of the first ones as they are.
    """
    draw = torch.Generator().manual_seed(0)
    rows = -(-examples // blocks)
    return torch.cat([torch.randperm(blocks, generator=draw) for _ in range(rows)])[:examples]


def blocks_of_examples(per_example: Float[Tensor, "example ..."], blocks: int = COUNT) -> Blocks:
    """Blocks of scores that were kept example by example."""
    count = min(blocks, len(per_example))
    where = block_of(len(per_example), count)
    sums = torch.zeros(count, *per_example.shape[1:], dtype=torch.float64)
    for numbers, values in columns(per_example):
        sums.flatten(1)[:, numbers].index_add_(0, where, values.double())
    return Blocks(sums, where.bincount(minlength=count))
