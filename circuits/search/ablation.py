"""Heads switched off: z, what a head's attention brought together, set to zero or to its mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from circuits.options.choices import HeadAblation
from circuits.options.run import RunOptions
from circuits.runtime.batching import over_batches
from tasks.pairs import PairBatch, PairSet


@dataclass(frozen=True)
class HeadAblationRun:
    """Runs a model on clean prompts with some heads' z replaced.

    stand_in: what z becomes; attentions in the layout's order, which are a decoder-only's layers.
    """

    model: HookedModel
    stand_in: Float[Tensor, "attention head d_head"]

    @classmethod
    def of(
        cls,
        model: HookedModel,
        ablation: HeadAblation,
        pairs: PairSet,
        *,
        options: RunOptions,
    ) -> HeadAblationRun:
        """ablation: "zero", or "mean" over all positions of the pairs' clean prompts, unpadded."""
        shape = (len(model.view.attentions), model.layout.n_heads, model.view.d_head)
        totals = torch.zeros(shape, device=model.device)
        if ablation == "zero":
            return cls(model, totals)
        counts = torch.zeros(shape[0], 1, 1, device=model.device)
        for _, (total, count) in over_batches(
            model,
            pairs,
            _head_sums,
            batch_size=options.batch_size,
            engine=options.engine,
        ):
            totals += total.to(model.device)
            counts += count.to(model.device)
        return cls(model, totals / counts)

    def logits(
        self, batch: PairBatch, off: Bool[Tensor, "copy attention head"], first: int = 0
    ) -> Float[Tensor, "copy read vocab"]:
        """Answer logits without each copy's heads; before `first`, none is edited."""
        hooks = Hooks()
        for index, module in enumerate(_outputs(self.model)):
            if index >= first and off[:, index].any():
                hooks.before(module, partial(self._without, index, off[:, index]))
        copies = batch.repeat(len(off))
        with torch.no_grad():
            logits: Tensor = self.model.logits(copies.clean, copies, hooks)
        return rearrange(logits, "(copy read) vocab -> copy read vocab", copy=len(off))

    def _without(self, index: int, off: Bool[Tensor, "copy head"], x: Tensor) -> Tensor:
        shape = {"copy": len(off), "head": off.shape[1]}
        z = rearrange(x, "(copy batch) pos (head d) -> copy batch pos head d", **shape)
        gone = off.to(x.device)[:, None, None, :, None]
        return torch.where(gone, self.stand_in[index].to(x.dtype), z).view(x.shape)


def _head_sums(
    model: HookedModel, batch: PairBatch
) -> tuple[Float[Tensor, "attention head d_head"], Float[Tensor, "attention 1 1"]]:
    """The work on a batch: the sum of each head's z over positions, and how many there are."""
    lengths, hooks, outputs = (
        model.model_inputs(batch.clean, batch).lengths,
        Hooks(),
        _outputs(model),
    )
    heads = model.layout.n_heads
    totals = torch.zeros(len(outputs), heads, model.view.d_head, device=model.device)
    counts = torch.zeros(len(outputs), 1, 1, device=model.device)

    def add(row: int, lengths: Int[Tensor, " batch"], z: Tensor) -> None:
        inside = torch.arange(z.shape[1], device=z.device) < lengths[:, None]
        by_head = rearrange(z, "batch pos (head d) -> batch pos head d", head=heads)
        totals[row] += by_head.float()[inside].sum(dim=0)
        counts[row] += inside.sum()

    for index, attention in enumerate(model.view.attentions):
        stream = lengths[0 if attention.place.encoder else -1]
        hooks.before(outputs[index], partial(add, index, stream))
    with torch.no_grad():
        model.logits(batch.clean, batch, hooks)
    return totals, counts


def _outputs(model: HookedModel) -> list[nn.Module]:
    """The module that mixes each attention's heads; their z goes in."""
    return [attention.output for attention in model.view.attentions]
