"""What the backward passes leave behind at the readers: see step 2 of the engine."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.view import Projection, ReadsHeads, ReadsInput, View

Reads = ReadsHeads | ReadsInput


@dataclass
class _Normed:
    """What one norm saw: xhat per step taken, and this step's sigma."""

    xhat: Float[Tensor, "step batch pos d_model"]
    sigma: Float[Tensor, "batch pos 1"] | None = None


class ReaderGradients:
    """What the backward passes leave behind: see step 2 of the module's docstring.

    projected: G of each attention's readers of a stream. c: for the rank-one correction, per step.
    wide: the gradient at the stream of each MLP's and the logits' reader. normed: what every norm
    in front of projections saw.
    """

    def __init__(
        self,
        view: View,
        like: list[Float[Tensor, "batch _ d_model"]],
        steps: int,
        readers: Set[Reads] | None = None,
    ) -> None:
        """readers: the ones to watch; None for all."""
        self.view, self.device, self.taken = view, like[0].device, 0
        self.projected: dict[ReadsHeads, Tensor] = {}
        self.c: dict[ReadsHeads, Tensor] = {}
        self.wide: dict[ReadsInput, Tensor] = {}
        self.normed: dict[Norm, _Normed] = {}
        self.origins: dict[Projection, Tensor | None] = {}
        for stream, inputs in zip(view.streams, like, strict=True):
            batch, length, width = inputs.shape
            room = partial(torch.empty, device=inputs.device)
            for event in stream.events:
                if readers is not None and event not in readers:
                    continue
                if isinstance(event, ReadsInput):
                    self.wide[event] = room(batch, length, width)
                elif isinstance(event, ReadsHeads):
                    ports = event.span.stop - event.span.start
                    self.projected[event] = room(batch, length, ports, view.d_head)
                    if event.norm is not None:
                        for projection in event.projections:
                            self.origins[projection] = _at_zero(projection, event.norm)
                        self.c[event] = room(steps, batch, length, ports)
                        if event.norm not in self.normed:
                            self.normed[event.norm] = _Normed(room(steps, batch, length, width))

    def reset(self) -> None:
        """Forget all steps. What norms see is written before it is read."""
        self.taken = 0
        for total in (*self.projected.values(), *self.wide.values(), *self.c.values()):
            total.zero_()

    def record(self, hooks: Hooks, step: int, weight: float) -> None:
        """Add one point of the path, by the backward pass of the run that `hooks` serve."""
        self.taken = step + 1
        for norm, seen in self.normed.items():
            hooks.before(norm.module, partial(self._normalised, norm, seen, step))
        for stream in self.view.streams:
            for event in stream.events:
                if isinstance(event, ReadsHeads) and event in self.projected:
                    for module, parts in event.modules.items():
                        hooks.after(module, self._projected(event, parts, step, weight))
                elif isinstance(event, ReadsInput) and event in self.wide:
                    hooks.before(event.module, self._branch(event, step, weight))

    def _normalised(self, norm: Norm, seen: _Normed, step: int, x: Tensor) -> None:
        seen.sigma = norm.normalise(x.detach(), out=seen.xhat[step])[1]

    def _projected(
        self, event: ReadsHeads, parts: list[tuple[Projection, slice]], step: int, weight: float
    ) -> Callable[[Tensor], None]:
        def attach(output: Tensor) -> None:
            value = output.detach()

            def on_gradient(gradient: Tensor) -> None:
                for projection, columns in parts:
                    heads = slice(columns.start - event.span.start, columns.stop - event.span.start)
                    g = projection.heads(gradient).float()
                    total = self.projected[event][..., heads, :]
                    if event.norm is None:
                        total.add_(g, alpha=weight)
                        continue
                    sigma = self.normed[event.norm].sigma
                    assert sigma is not None
                    scale = weight / sigma
                    total.addcmul_(g, scale[..., None])
                    above = projection.heads(value).float()
                    if (origin := self.origins[projection]) is not None:
                        above = above - origin
                    along = (above * g).sum(dim=-1)
                    self.c[event][step, ..., heads] = along * (scale / self.view.d_model)

            output.register_hook(on_gradient)

        return attach

    def _branch(self, event: ReadsInput, step: int, weight: float) -> Callable[[Tensor], Tensor]:
        """The gradient of one branch alone: the reader gets a view of what it reads, and the view
        is hooked.
        """

        def add(gradient: Tensor) -> None:
            total = self.wide[event]
            gradient = gradient.view(total.shape)
            if event.norm is not None:
                seen = self.normed[event.norm]
                assert seen.sigma is not None
                gradient = event.norm.pulled_back(gradient, seen.xhat[step], seen.sigma)
            total.add_(gradient, alpha=weight)

        def edit(x: Tensor) -> Tensor:
            branch = x.view_as(x)
            branch.register_hook(add)
            return branch

        return edit


def _at_zero(projection: Projection, norm: Norm) -> Float[Tensor, "head d_head"] | None:
    """q0: the projection's value where the normalised stream is zero; None for zero."""
    value = None if projection.bias is None else projection.bias.float()
    if norm.bias is None:
        return value
    shift = torch.einsum("d,hdk->hk", norm.bias.float(), projection.weight.float())
    return shift if value is None else shift + value
