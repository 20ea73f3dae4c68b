"""Heads switched off: z, what a head's attention brought together, set to zero or to its mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from circuits.batching import over_batches
from circuits.errors import CircuitsError
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from circuits.search.stacked import stacked
from tasks.pairs import PairBatch, PairSet

ABLATIONS = ("zero", "mean")


@dataclass(frozen=True)
class HeadAblation:
    """Runs a model on clean prompts with some heads' z replaced.

    stand_in: what z becomes.
    """

    model: HookedModel
    stand_in: Float[Tensor, "layer head d_head"]

    @classmethod
    def of(
        cls, model: HookedModel, kind: str, pairs: PairSet, *, batch_size: int | None = None
    ) -> HeadAblation:
        """kind: "zero", or "mean" over all positions of the pairs' clean prompts, padding out."""
        if kind not in ABLATIONS:
            raise CircuitsError(f"ablation {kind!r}; known: {', '.join(ABLATIONS)}")
        layout = model.layout
        totals = torch.zeros(layout.n_layers, layout.n_heads, model.view.d_head)
        totals = totals.to(model.device)
        if kind == "zero":
            return cls(model, totals)

        def add(layer: int, batch: PairBatch, z: Tensor) -> None:
            totals[layer] += z.unflatten(-1, (layout.n_heads, -1)).float()[batch.mask].sum(dim=0)

        def work(batch: PairBatch) -> int:
            hooks = Hooks()
            for layer, module in enumerate(_outputs(model)):
                hooks.before(module, partial(add, layer, batch))
            with torch.no_grad():
                model.logits(batch.clean, batch, hooks)
            return int(batch.mask.sum())

        positions = sum(
            count
            for _, count in over_batches(
                pairs, work, batch_size=batch_size, apart=model.short_context, device=model.device
            )
        )
        return cls(model, totals / positions)

    def logits(
        self, batch: PairBatch, off: Bool[Tensor, "copy layer head"], first: int = 0
    ) -> Float[Tensor, "copy read vocab"]:
        """Logits at the batch's reads without each copy's heads; before `first`, none is edited."""
        hooks = Hooks()
        for layer, module in enumerate(_outputs(self.model)):
            if layer >= first and off[:, layer].any():
                hooks.before(module, partial(self._without, layer, off[:, layer]))
        copies = stacked(batch, len(off))
        with torch.no_grad():
            logits: Tensor = self.model.logits(copies.clean, copies, hooks)
        return logits.view(len(off), -1, logits.shape[1])

    def _without(self, layer: int, off: Bool[Tensor, "copy head"], x: Tensor) -> Tensor:
        z = x.view(len(off), -1, x.shape[1], off.shape[1], self.stand_in.shape[-1])
        gone = off.to(x.device)[:, None, None, :, None]
        return torch.where(gone, self.stand_in[layer].to(x.dtype), z).view(x.shape)


def _outputs(model: HookedModel) -> list[nn.Module]:
    """The module that mixes a layer's heads; their z goes in."""
    return [attention.output for attention in model.view.attentions]
