"""What the backward passes leave behind at the readers: see steps 2 and 3 of the engine."""

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
    """What one norm saw in the last pass: its input, which the pass keeps anyway, and sigma."""

    x: Float[Tensor, "batch pos d_model"]
    sigma: Float[Tensor, "batch pos 1"]


class ReaderGradients:
    """What the backward passes leave behind.

    projected: G of each attention's readers of a stream. wide: the gradient at the stream of each
    MLP's and the logits' reader. c: for the rank-one correction, of the last pass. normed: what
    every norm in front of projections saw in it.
    single: readers whose gradients are those of the last pass alone, unweighted; all others' are
    summed over passes.
    """

    def __init__(
        self,
        view: View,
        like: list[Float[Tensor, "batch _ d_model"]],
        single: Set[Reads] = frozenset(),
    ) -> None:
        """like: what enters the streams."""
        self.view, self.device, self.single = view, like[0].device, single
        self.projected: dict[ReadsHeads, Tensor] = {}
        self.c: dict[ReadsHeads, Tensor] = {}
        self.wide: dict[ReadsInput, Tensor] = {}
        self.normed: dict[Norm, _Normed] = {}
        norms: dict[Norm, None] = {}
        self.origins: dict[Projection, Tensor | None] = {}
        for stream, inputs in zip(view.streams, like, strict=True):
            batch, length, width = inputs.shape
            room = partial(torch.zeros, device=inputs.device)
            for event in stream.events:
                if isinstance(event, ReadsInput):
                    self.wide[event] = room(batch, length, width)
                elif isinstance(event, ReadsHeads):
                    ports = event.span.stop - event.span.start
                    self.projected[event] = room(batch, length, ports, view.d_head)
                    if event.norm is not None:
                        for projection in event.projections:
                            self.origins[projection] = _at_zero(projection, event.norm)
                        self.c[event] = room(batch, length, ports)
                        norms.setdefault(event.norm)
        self.norms = tuple(norms)

    def record(self, hooks: Hooks, weight: float) -> None:
        """Take one point of the path, by the backward pass of the run that `hooks` serve."""
        self.normed.clear()
        for total in self.c.values():  # a pass may not reach all
            total.zero_()
        for one in self.single:
            (self.wide[one] if isinstance(one, ReadsInput) else self.projected[one]).zero_()
        for norm in self.norms:
            hooks.before(norm.module, partial(self._normalised, norm), in_graph=True)
        for stream in self.view.streams:
            for event in stream.events:
                own = 1.0 if event in self.single else weight
                if isinstance(event, ReadsHeads):
                    for module, parts in event.modules.items():
                        hooks.after(module, self._projected(event, parts, own), in_graph=True)
                elif isinstance(event, ReadsInput):
                    hooks.before(event.module, self._branch(event, own), in_graph=True)

    def xhat(
        self, norm: Norm, at: tuple[int | slice, slice] = (slice(None), slice(None))
    ) -> Float[Tensor, "*at d_model"]:
        """What a norm put out before its weight, of some examples and positions."""
        return norm.normalise(self.normed[norm].x[at])[0]

    def _normalised(self, norm: Norm, x: Tensor) -> None:
        self.normed[norm] = _Normed(x.detach(), norm.sigma(x.detach()))

    def _projected(
        self, event: ReadsHeads, parts: list[tuple[Projection, slice]], weight: float
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
                    scale = weight / self.normed[event.norm].sigma
                    total.addcmul_(g, scale[..., None])
                    above = projection.heads(value).float()
                    if (origin := self.origins[projection]) is not None:
                        above = above - origin
                    along = (above * g).sum(dim=-1)
                    self.c[event][..., heads] = along * (scale / self.view.d_model)

            output.register_hook(on_gradient)

        return attach

    def _branch(self, event: ReadsInput, weight: float) -> Callable[[Tensor], Tensor]:
        """The gradient of one branch alone: the reader gets a view of what it reads, and the view
        is hooked.
        """

        def add(gradient: Tensor) -> None:
            total = self.wide[event]
            gradient = gradient.view(total.shape)
            if event.norm is not None:
                sigma = self.normed[event.norm].sigma
                gradient = event.norm.pulled_back(gradient, self.xhat(event.norm), sigma)
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
