"""Prove which head is which: that a projection's output is laid out as the view says.

Single heads of the first layer are disturbed, the last of each port: a query must move its own head
at its own position, a key its group (at later positions, if attention is causal), and a constant
added to a value must arrive in its group as it is, attention weights summing to 1.

The layout is the architecture's, whatever the weights are, and a head that is off moves nothing.
So the projections' outputs are drawn at random, and norms behind them that work head by head are
taken without their weights: every head is on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from circuits.errors import UnsupportedError
from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.view import Attention, Projection
from tasks.pairs import PairBatch

if TYPE_CHECKING:
    from circuits.models.hooked import HookedModel

_AT = 1  # the position that is disturbed
_PUSHES = (3.0, -3.0, 30.0, -30.0)  # until attention moves: it may be saturated


def check_heads(model: HookedModel, batch: PairBatch) -> None:
    """Raise `CircuitsError` if a head is not where the view says."""
    for attention in model.view.attentions:
        if attention.place.layer > 0:
            continue
        drawn = _Drawn(model, batch, attention)
        for projection in attention.projections:
            if not drawn.moves_its_heads(projection):
                raise UnsupportedError(
                    f"{type(model.hf).__name__}: the residual-stream view is wrong for this model: "
                    f"the last {projection.port} head of {attention.place.prefix} is not where the "
                    "view says; it is not supported"
                )


class _ReachedError(Exception):
    """Ends a run where what it is for has been seen."""


class _Drawn:
    """An attention whose q, k and v are drawn at random, run on a batch."""

    def __init__(self, model: HookedModel, batch: PairBatch, attention: Attention) -> None:
        self.model, self.batch, self.attention = model, batch, attention
        self.ends = {p.port: self._end(p) for p in attention.projections}
        self.norms = [
            norm
            for p in attention.projections
            if (norm := self._norm(p)) is not None and norm.module is not self.ends[p.port]
        ]
        self.still = self._mixed()

    def moves_its_heads(self, projection: Projection) -> bool:
        """Whether disturbing the port's last head at the second position moves what it should."""
        heads, still = self.model.layout.n_heads, self.still
        group = 1 if projection.port == "q" else heads // projection.n_heads
        for size in _PUSHES:
            push = torch.linspace(-size, size, projection.d_head, device=self.model.device)
            where = slice(None) if projection.port == "v" else slice(_AT, _AT + 1)

            def disturb(output: Tensor, push: Tensor = push, where: slice = where) -> Tensor:
                new = output.clone()
                projection.heads(new)[:, where, -1] += push.to(new.dtype)
                return new

            pushed = self._mixed((self.ends[projection.port], disturb))
            moved = rearrange(pushed - still, "batch pos (head d) -> batch pos head d", head=heads)
            last_group, others = moved[:, :, -group:], moved[:, :, :-group]
            if others.any():
                return False
            if projection.port == "v":
                return bool(torch.allclose(last_group, push.expand_as(last_group), atol=0.05))
            positions = last_group.abs().amax(dim=(0, 2, 3)) > 0
            if not positions.any():
                continue
            if projection.port == "q":
                return bool(positions[_AT]) and int(positions.sum()) == 1
            place = self.attention.place
            return place.encoder or place.cross or not positions[:_AT].any()
        return False

    def _mixed(
        self, edit: tuple[nn.Module, Callable[[Tensor], Tensor]] | None = None
    ) -> Float[Tensor, "batch pos feature"]:
        """What the attention's output matrix reads, with the output of one module edited."""
        hooks = Hooks()
        for index, module in enumerate(dict.fromkeys(self.ends.values())):
            hooks.after(module, partial(self._draw, index))
        for norm in self.norms:
            _without_weights(norm, hooks)
        if edit is not None:
            hooks.after(*edit)
        seen: list[Tensor] = []

        def stop(x: Tensor) -> None:
            seen.append(x)
            raise _ReachedError

        hooks.before(self.attention.output, stop)
        try:
            self.model.logits(self.batch.clean, self.batch, hooks)
        except _ReachedError:
            return seen[0].float()
        raise UnsupportedError(
            f"{type(self.model.hf).__name__}: the residual-stream view is wrong for this model: "
            f"{self.attention.place.prefix} does not run; it is not supported"
        )

    def _draw(self, seed: int, output: Tensor) -> Tensor:
        # Small enough that attention is far from saturated where q times k is not scaled down.
        size: float = self.model.view.d_head**-0.25
        generator = torch.Generator().manual_seed(seed)
        return (torch.randn(output.shape, generator=generator) * size).to(output)

    def _end(self, projection: Projection) -> nn.Module:
        """The projection's module; or the norm behind it, if that spans all heads (OLMo 2) and
        would let one head move the others. It keeps the features' order.
        """
        norm = self._norm(projection)
        if norm is not None and norm.weight.numel() > projection.d_head:
            return norm.module
        return projection.module

    def _norm(self, projection: Projection) -> Norm | None:
        module = getattr(self.attention.module, f"{projection.port}_norm", None)
        return Norm.of(module) if isinstance(module, nn.Module) else None


def _without_weights(norm: Norm, hooks: Hooks) -> None:
    inputs: list[Tensor] = []
    hooks.before(norm.module, inputs.append)
    hooks.after(norm.module, lambda output: norm.normalise(inputs.pop()).to(output.dtype))
