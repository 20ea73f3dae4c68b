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
from circuits.models.view import Projection, ReadsHeads, ReadsInput, Stream, View

Reads = ReadsHeads | ReadsInput


@dataclass
class _Normed:
    """What one norm saw in a pass: its input, which the pass keeps anyway, and 1 / sigma."""

    x: Float[Tensor, "batch pos d_model"]
    inverse: Float[Tensor, "batch pos 1"]


class ReaderGradients:
    """What the backward passes leave behind, until it has met the sources.

    projected: G of each attention's readers of a stream. wide: the gradient at the stream of each
    MLP's and the logits' reader. c: of each stream, for the rank-one correction, times d_model;
    `c_slices` has each attention's readers in it. normed: what every norm in front of projections
    saw. c and normed are of each pass by itself, in `n_passes` slots that are used in turn.
    single: readers whose gradients, too, are of each pass by itself, unweighted; all others' are
    summed over passes, in one place. frozen: whether norms' scales are constants, so that there is
    no c.
    """

    projected: dict[ReadsHeads, Float[Tensor, "n_passes batch pos port d_head"]]
    wide: dict[ReadsInput, Float[Tensor, "n_passes batch pos d_model"]]
    c: dict[Stream, Float[Tensor, "n_passes batch pos reader"]]

    def __init__(
        self,
        view: View,
        like: list[Float[Tensor, "batch _ d_model"]],
        single: Set[Reads] = frozenset(),
        n_passes: int = 1,
        *,
        frozen: bool = False,
    ) -> None:
        """like: what enters the streams."""
        self.view, self.device, self.single, self.frozen = view, like[0].device, single, frozen
        self.projected, self.wide, self.c = {}, {}, {}
        self.c_slices: dict[ReadsHeads, slice] = {}
        self.normed: list[dict[Norm, _Normed]] = [{} for _ in range(n_passes)]
        self._scales: dict[ReadsHeads, Tensor] = {}
        norms: dict[Norm, None] = {}
        self._origins: dict[Projection, Tensor | None] = {}
        for stream, inputs in zip(view.streams, like, strict=True):
            batch, length, width = inputs.shape
            room, corrected = partial(torch.zeros, device=inputs.device), 0
            for event in stream.events:
                each = n_passes if event in single else 1
                if isinstance(event, ReadsInput):
                    self.wide[event] = room(each, batch, length, width)
                elif isinstance(event, ReadsHeads):
                    ports = event.span.stop - event.span.start
                    self.projected[event] = room(each, batch, length, ports, view.d_head)
                    if event.norm is not None:
                        for parts in event.joined.values():
                            for projection, _ in parts:
                                self._origins[projection] = _at_zero(projection, event.norm)
                        self.c_slices[event] = slice(corrected, corrected + ports)
                        corrected += ports
                        norms.setdefault(event.norm)
            self.c[stream] = room(n_passes, batch, length, corrected)
        self.norms = tuple(norms)

    def clear(self) -> None:
        """Forget what is of single passes; the sources have met it."""
        for seen in self.normed:
            seen.clear()
        for total in self.c.values():  # a pass may not reach all
            total.zero_()
        for event in self.single:
            (self.wide[event] if isinstance(event, ReadsInput) else self.projected[event]).zero_()

    def record(self, hooks: Hooks, weight: float, slot: int) -> None:
        """Take one point of the path, by the backward pass of the run that `hooks` serve.

        slot: of the `n_passes`, where to keep what is of this pass by itself.
        """
        self._scales.clear()
        for norm in self.norms:
            hooks.before(norm.module, partial(self._normalised, slot, norm), in_graph=True)
        for stream in self.view.streams:
            c = self.c[stream][slot]
            for event in stream.events:
                own, at = (1.0, slot) if event in self.single else (weight, 0)
                if isinstance(event, ReadsHeads):
                    into = (self.projected[event][at], c)
                    seen = self.normed[slot]
                    for module, parts in event.joined.items():
                        watch = self._projected(event, parts, into, seen, own)
                        hooks.after(module, watch, in_graph=True)
                elif isinstance(event, ReadsInput):
                    branch = self._branch(event, self.wide[event][at], self.normed[slot], own)
                    hooks.before(event.module, branch, in_graph=True)

    def _normalised(self, index: int, norm: Norm, x: Tensor) -> None:
        self.normed[index][norm] = _Normed(x.detach(), norm.inverse(x.detach()))

    def _scale(
        self, event: ReadsHeads, seen: _Normed, weight: float
    ) -> Float[Tensor, "batch pos 1"]:
        """The point's weight over sigma, made once for all modules of an event."""
        if event not in self._scales:
            self._scales[event] = weight * seen.inverse
        return self._scales[event]

    def _projected(
        self,
        event: ReadsHeads,
        parts: list[tuple[Projection, slice]],
        into: tuple[Tensor, Tensor],
        seen: dict[Norm, _Normed],
        weight: float,
    ) -> Callable[[Tensor], None]:
        """into: G of the event's readers, and c of the stream's."""
        gradients, c = into

        def attach(output: Tensor) -> None:
            value = output.detach()

            def on_gradient(gradient: Tensor) -> None:
                for projection, columns in parts:
                    heads = slice(columns.start - event.span.start, columns.stop - event.span.start)
                    g = projection.heads(gradient).float()
                    total = gradients[..., heads, :]
                    if event.norm is None:
                        total.add_(g, alpha=weight)
                        continue
                    scale = self._scale(event, seen[event.norm], weight)
                    total.addcmul_(g, scale[..., None])
                    if self.frozen:
                        continue
                    above = projection.heads(value).float()
                    if (origin := self._origins[projection]) is not None:
                        above = above - origin
                    start = self.c_slices[event].start
                    c_of_part = c[..., start + heads.start : start + heads.stop]
                    torch.mul((above * g).sum(dim=-1), scale, out=c_of_part)

            output.register_hook(on_gradient)

        return attach

    def _branch(
        self, event: ReadsInput, total: Tensor, saw: dict[Norm, _Normed], weight: float
    ) -> Callable[[Tensor], Tensor]:
        """The gradient of one branch alone: the reader gets a view of what it reads, and the view
        is hooked.
        """

        def add(gradient: Tensor) -> None:
            gradient = gradient.view(total.shape)
            if event.norm is not None:
                seen = saw[event.norm]
                if self.frozen:
                    gradient = event.norm.scaled_back(gradient, seen.inverse)
                else:
                    xhat = event.norm.normalise(seen.x)
                    gradient = event.norm.pulled_back(gradient, xhat, seen.inverse)
            total.add_(gradient, alpha=weight)

        def edit(x: Tensor) -> Tensor:
            branch = x.view_as(x)
            branch.register_hook(add)
            return branch

        return edit


def bytes_of_a_pass(
    view: View, like: list[Float[Tensor, "batch _ d_model"]], single: Set[Reads]
) -> int:
    """What one pass leaves behind that is of it alone: c, what norms saw, single readers' G."""
    n_bytes = 0
    for stream, inputs in zip(view.streams, like, strict=True):
        heads = [event for event in stream.events if isinstance(event, ReadsHeads)]
        ports = {event: event.span.stop - event.span.start for event in heads}
        norms = {event.norm for event in heads if event.norm is not None}
        alone = sum(count * view.d_head for event, count in ports.items() if event in single)
        alone += inputs.shape[-1] * sum(
            isinstance(event, ReadsInput) and event in single for event in stream.events
        )
        position = 4 * (sum(ports.values()) + alone)
        position += inputs.element_size() * inputs.shape[-1] * len(norms)
        n_bytes += position * inputs.shape[0] * inputs.shape[1]
    return n_bytes


def _at_zero(projection: Projection, norm: Norm) -> Float[Tensor, "head d_head"] | None:
    """q0: the projection's value where the normalised stream is zero; None for zero."""
    value = None if projection.bias is None else projection.bias.float()
    if norm.bias is None:
        return value
    shift = torch.einsum("d,hdk->hk", norm.bias.float(), projection.weight.float())
    return shift if value is None else shift + value
