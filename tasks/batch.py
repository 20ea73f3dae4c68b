"""Prompt pairs as tensors: what a model is run on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class PairBatch:
    """Pairs as tensors, right-padded. Logits are looked at in the *answer positions* only.

    Attributes:
        clean: token ids, answers included; padding is 0 where `mask` is False.
        corrupted: the same of the corrupted prompts.
        mask: False at padding.
        example_index: for each answer position, which example of the batch it is of; those of one
            example stand together, in order.
        position: for each answer position, where in the text it is.
        answer: for each answer position, the right tokens, padded with -1.
        wrong: for each answer position, the wrong tokens, padded with -1.
        index: for each example, its index in the set that the batch came from.
        sources: each example's `PromptPair.source`.
        padded: whether any position is padding; no device is asked for it.
    """

    clean: Int[Tensor, "batch pos"]
    corrupted: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    example_index: Int[Tensor, " read"]
    position: Int[Tensor, " read"]
    answer: Int[Tensor, "read right"]
    wrong: Int[Tensor, "read wrong"]
    index: Int[Tensor, " batch"]
    sources: tuple[str, ...]
    padded: bool

    def __len__(self) -> int:
        return self.clean.shape[0]

    def select(self, chosen: Bool[Tensor, " batch"]) -> PairBatch:
        """Some of the examples, with the padding that they have.

        Args:
            chosen: which examples stay.

        Returns:
            A batch of those alone.
        """
        answer_positions = chosen[self.example_index]
        new_index = chosen.cumsum(dim=0) - 1
        return replace(
            self,
            clean=self.clean[chosen],
            corrupted=self.corrupted[chosen],
            mask=self.mask[chosen],
            example_index=new_index[self.example_index[answer_positions]],
            position=self.position[answer_positions],
            answer=self.answer[answer_positions],
            wrong=self.wrong[answer_positions],
            index=self.index[chosen],
            sources=tuple(
                name for name, keep in zip(self.sources, chosen.tolist(), strict=True) if keep
            ),
            padded=not bool(self.mask[chosen].all()),
        )

    def repeat(self, n: int) -> PairBatch:
        """All examples, then all of them again, and so on.

        Args:
            n: how many copies there are in all.

        Returns:
            The batch with `n` times as many examples, copy after copy.
        """
        if n == 1:
            return self
        shifts = len(self) * torch.arange(n, device=self.example_index.device)
        return replace(
            self,
            clean=self.clean.repeat(n, 1),
            corrupted=self.corrupted.repeat(n, 1),
            mask=self.mask.repeat(n, 1),
            example_index=(shifts[:, None] + self.example_index).flatten(),
            position=self.position.repeat(n),
            answer=self.answer.repeat(n, 1),
            wrong=self.wrong.repeat(n, 1),
            index=self.index.repeat(n),
            sources=self.sources * n,
        )

    def to(self, device: torch.device | str) -> PairBatch:
        """The same batch on another device.

        Args:
            device: where its tensors should be.

        Returns:
            The batch there.
        """
        return replace(
            self,
            clean=self.clean.to(device),
            corrupted=self.corrupted.to(device),
            mask=self.mask.to(device),
            example_index=self.example_index.to(device),
            position=self.position.to(device),
            answer=self.answer.to(device),
            wrong=self.wrong.to(device),
            index=self.index.to(device),
        )
