"""Sums over sources, each times its edge's gate, and the gates' gradient.

Forward, a reader's sum is one product of its gates with what all sources wrote so far against the
reference. Backward, the same buffer gives the gates' gradient,

    dM/dz(u -> v) = sum over positions (a_u - a'_u) . dM/dx_v,

which is the edge's score at the run with these gates, and what reaches the sources is gathered in
one more buffer. Nothing is copied for a reader, and autograd sees neither buffer: a number that is
handed on from one step to the next keeps its backward steps in order, so that a source is asked for
its gradient only when all its readers have given theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.runtime.autograd import Context


class GatedSums:
    """One stream's sources on a run with gates. A token is a position of an example.

    written: how many sources have written.
    """

    def __init__(
        self,
        gates: Float[Tensor, "source reader"],
        gradient: Float[Tensor, "source reader"],
        like: Float[Tensor, "batch pos d_model"],
    ) -> None:
        """gates: of the stream's sources. gradient: float32, where that of the gates is added.

        like: a stream's values.
        """
        self.gates, self.gradient = gates, gradient
        self.deltas = like.new_empty(len(gates), like.shape[:2].numel(), like.shape[2])
        self.returned: Float[Tensor, "source token d_model"] | None = None
        self.written = 0
        self._handed_on = torch.zeros((), device=like.device, requires_grad=True)

    def write(
        self,
        values: Float[Tensor, "batch pos *wide"],
        weight: Float[Tensor, "head d_head d_model"] | None = None,
    ) -> None:
        """What a source wrote against the reference; or what an attention's heads did, by z and the
        matrix that widens it.
        """
        into: Callable[..., Tensor] = _Write.apply
        self._handed_on = into(self._handed_on, self, values, weight)
        self.written += 1 if weight is None else len(weight)

    def of(self, columns: Sequence[int], start: int) -> Float[Tensor, "reader token d_model"]:
        """The sums of some readers over the sources from `start` on that have written."""
        sums: Callable[..., Tensor] = _Sum.apply
        return sums(self._handed_on, self, list(columns), slice(start, self.written))


class _Write(torch.autograd.Function):
    """Puts values into the buffer; backward, takes their gradient from the other one."""

    @staticmethod
    def forward(
        ctx: Context, handed_on: Tensor, sums: GatedSums, values: Tensor, weight: Tensor | None
    ) -> Tensor:
        count = 1 if weight is None else len(weight)
        ctx.sums, ctx.weight, ctx.shape = sums, weight, values.shape
        ctx.rows = slice(sums.written, sums.written + count)
        into = sums.deltas[ctx.rows]
        if weight is None:
            into[0] = values.flatten(0, 1)
        else:
            torch.bmm(values.flatten(0, 1).transpose(0, 1), weight, out=into)
        return handed_on.clone()

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
        returned, values = ctx.sums.returned, None
        if ctx.needs_input_grad[2] and returned is not None:
            values = returned[ctx.rows]
            if ctx.weight is None:
                values = values[0]
            else:
                values = torch.bmm(values, ctx.weight.transpose(1, 2)).transpose(0, 1)
            values = values.reshape(ctx.shape)
        return gradient, None, values, None


class _Sum(torch.autograd.Function):
    """Readers' sums; backward, the gates' gradient and what the sources are given back."""

    @staticmethod
    def forward(
        ctx: Context, handed_on: Tensor, sums: GatedSums, columns: list[int], rows: slice
    ) -> Tensor:
        ctx.sums, ctx.columns, ctx.rows, ctx.nothing = sums, columns, rows, handed_on.new_zeros(())
        deltas = sums.deltas[rows]
        ctx.weights = sums.gates[rows][:, columns].T.to(deltas.dtype)
        weighted_sums: Tensor = (ctx.weights @ deltas.flatten(1)).view(
            len(columns), *deltas.shape[1:]
        )
        return weighted_sums

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        sums, rows = ctx.sums, ctx.rows
        if sums.returned is None:
            sums.returned = torch.zeros_like(sums.deltas)
        flat = gradient.flatten(1)
        sums.gradient[rows, ctx.columns] += (sums.deltas[rows].flatten(1) @ flat.T).float()
        sums.returned[rows].flatten(1).addmm_(ctx.weights.T, flat)
        return ctx.nothing, None, None, None
