"""What every source wrote to the residual stream in one run, kept narrow.

A head's output is kept as z (d_head wide) and widened by W_O only when asked for: n_heads x d_head
numbers a position instead of n_heads x d_model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.models.hooks import Hooks
from circuits.models.view import View


@dataclass
class SourceStates:
    """Source outputs of one run, or the difference of two runs (biases cancel in it).

    embedding: what enters the first layer. z: per layer, what enters the attention output matrix.
    mlp: per layer, what the MLP adds to the stream.
    """

    view: View
    embedding: Float[Tensor, "batch pos d_model"] | None = None
    z: list[Float[Tensor, "batch pos head d_head"]] = field(default_factory=list)
    mlp: list[Float[Tensor, "batch pos d_model"]] = field(default_factory=list)

    def record(self, hooks: Hooks) -> None:
        """Fill this object during the run that `hooks` are in place for."""

        def embedding(x: Tensor) -> None:
            self.embedding = x.detach()

        def z(x: Tensor) -> None:
            self.z.append(x.detach().view(*x.shape[:2], self.view.layout.n_heads, -1))

        def mlp(x: Tensor) -> None:
            self.mlp.append(x.detach())

        hooks.before(self.view.layers[0].block, embedding)
        for layer in self.view.layers:
            hooks.before(layer.output, z)
            hooks.after(layer.mlp, mlp)

    @property
    def start(self) -> Float[Tensor, "batch pos d_model"]:
        """The input source; only after a run."""
        assert self.embedding is not None, "no run was recorded"
        return self.embedding

    def __sub__(self, other: SourceStates) -> SourceStates:
        return SourceStates(
            self.view,
            self.start - other.start,
            [a - b for a, b in zip(self.z, other.z, strict=True)],
            [a - b for a, b in zip(self.mlp, other.mlp, strict=True)],
        )

    def output(self, row: int) -> Float[Tensor, "batch pos d_model"]:
        """One source's output, d_model wide; a head's without the attention output bias."""
        if row == 0:
            return self.start
        layer, head = divmod(row - 1, self.view.layout.n_heads + 1)
        if head == self.view.layout.n_heads:
            return self.mlp[layer]
        return self.z[layer][:, :, head] @ self.view.layers[layer].output_weight[head]

    def widened(self, example: int, positions: slice) -> Float[Tensor, "source pos d_model"]:
        """All sources' outputs of one example at some positions, in float32."""
        heads = self.view.layout.n_heads
        length = self.start[example, positions].shape[0]
        wide = torch.empty(
            self.view.layout.shape[0], length, self.view.d_model, device=self.start.device
        )
        wide[0] = self.start[example, positions]
        for index, layer in enumerate(self.view.layers):
            rows = self.view.layout.head_rows(index)
            z = self.z[index][example, positions].transpose(0, 1).float()
            torch.bmm(z, layer.output_weight.float(), out=wide[rows])
            wide[rows.start + heads] = self.mlp[index][example, positions]
        return wide
