"""Sources meet readers: steps 3 and 4 of the engine, one matrix product for many readers.

Readers wait for each other, so that what the sources wrote is read once for all of them: it does
not change afterwards, unless a norm rescales the stream. Buffers are made once, for on a CPU the
first touch of fresh memory costs more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.reader_gradients import ReaderGradients, Reads
from circuits.models import DecomposedStream, SourceActivations
from circuits.models.norm import Norm
from circuits.models.view import Event, ReadsHeads, ReadsInput, Rescales, Stream
from circuits.runtime.limits import CHUNK_BYTES, CHUNK_SHARE, READERS_AT_ONCE

_BLOCKS = (8, 4, 2, 1)


def add_edge_scores(
    scores: Float[Tensor, "batch source reader"],
    stream: Stream,
    runs: list[SourceActivations],
    gradients: ReaderGradients,
    parts: tuple[Set[Reads], Set[Reads]],
    lengths: Tensor,
    model_bytes: int,
) -> None:
    """Add the scores of a stream's sources, example by example, chunk by chunk of positions.

    parts: the readers whose G meets the sources, and those whose norms, with the c of the last
        pass, do.
    """
    rounds = _rounds(stream, parts)
    if not rounds:
        return
    rows, readers = len(stream) * len(runs), max(_width(together) for _, together in rounds)
    room = max(CHUNK_BYTES, int(CHUNK_SHARE * model_bytes))
    size = max(1, room // (4 * gradients.view.d_model * (rows + readers)))
    size = min(size, int(lengths.max()))
    buffers = _ScoreBuffers(gradients, parts, rows, readers, size)
    for example, positions in chunks(lengths, size):
        wide = DecomposedStream(stream, runs, (example, positions), buffers.sources)
        for events, together in rounds:
            for event in events:
                wide.pass_by(event)
            buffers.add(scores[example], wide, together)


def _rounds(
    stream: Stream, parts: tuple[Set[Reads], Set[Reads]]
) -> list[tuple[list[Event], list[Reads]]]:
    """The walk in rounds: what is passed by, and the readers that meet the sources then."""
    rounds: list[tuple[list[Event], list[Reads]]] = []
    passed: list[Event] = []
    waiting: list[Reads] = []
    for event in (*stream.events, None):
        if isinstance(event, ReadsHeads | ReadsInput):
            if event in parts[0] or event in parts[1]:
                waiting.append(event)
            continue
        due = event is None or isinstance(event, Rescales) or _width(waiting) >= READERS_AT_ONCE
        if waiting and due:
            rounds.append((passed, waiting))
            passed, waiting = [], []
        if event is not None:
            passed.append(event)
    return rounds


def chunks(lengths: Tensor, size: int) -> Iterator[tuple[int, slice]]:
    """Every example with its positions, `size` at a time; padding left out."""
    for example, length in enumerate(lengths.tolist()):
        for start in range(0, length, size):
            yield example, slice(start, min(start + size, length))


class _ScoreBuffers:
    """The buffers, and what is done in them. sources: for `DecomposedStream`."""

    def __init__(
        self,
        gradients: ReaderGradients,
        parts: tuple[Set[Reads], Set[Reads]],
        rows: int,
        readers: int,
        size: int,
    ) -> None:
        view = self.view = gradients.view
        self.gradients, (self.direct, self.normed) = gradients, parts
        self.sources = torch.empty(rows * size * view.d_model, device=gradients.device)
        self.readers = torch.empty(readers * size * view.d_model, device=gradients.device)
        ports = max(
            (event.span.stop - event.span.start for event in gradients.projected), default=0
        )
        self.weights = torch.empty(ports * view.d_model * view.d_head, device=gradients.device)

    def add(
        self, scores: Float[Tensor, "source reader"], wide: DecomposedStream, events: list[Reads]
    ) -> None:
        """Add the scores of the edges into the readers of these events."""
        visible = {event: self.view.layout.visible(columns_of(event).start) for event in events}
        rows = range(
            min(one.start for one in visible.values()), max(one.stop for one in visible.values())
        )
        delta = wide.seen(rows)
        for parts in (self._by_gradients(delta, wide, events), self._by_norms(delta, wide, events)):
            for event, part in parts:
                seen = visible[event]
                mine = slice(seen.start - rows.start, seen.stop - rows.start)
                scores[seen.start : seen.stop, columns_of(event)] += part[mine]

    def _by_gradients(
        self,
        delta: Float[Tensor, "source pos d_model"],
        wide: DecomposedStream,
        events: list[Reads],
    ) -> Iterator[tuple[Reads, Float[Tensor, "source reader"]]]:
        """What the sources wrote in the direction of each reader's gradient."""
        events = [event for event in events if event in self.direct]
        if not events:
            return
        places = list(_places(events))
        widened = _within(self.readers, places[-1].stop, *delta.shape[1:])
        for event, place in zip(events, places, strict=True):
            if isinstance(event, ReadsHeads):
                g = self.gradients.projected[event][wide.at].transpose(0, 1)
                torch.bmm(g, self._weight(event), out=widened[place])
            else:
                widened[place] = self.gradients.wide[event][wide.at]
        products = _dot(delta.flatten(1), widened.flatten(1))
        for event, place in zip(events, places, strict=True):
            yield event, products[:, place]

    def _by_norms(
        self,
        delta: Float[Tensor, "source pos d_model"],
        wide: DecomposedStream,
        events: list[Reads],
    ) -> Iterator[tuple[ReadsHeads, Float[Tensor, "source reader"]]]:
        """What the sources wrote in the direction of what each reader's norm saw, times -c."""
        behind: dict[Norm, list[ReadsHeads]] = {}
        for event in events:
            if event in self.normed and isinstance(event, ReadsHeads) and event.norm is not None:
                behind.setdefault(event.norm, []).append(event)
        if not behind:
            return
        xhats = torch.stack([self.gradients.xhat(norm, wide.at) for norm in behind])
        along = torch.einsum("upd,npd->nup", delta, xhats)
        for found, readers in zip(along, behind.values(), strict=True):
            for event in readers:
                yield event, -(found @ self.gradients.c[event][wide.at])

    def _weight(self, event: ReadsHeads) -> Float[Tensor, "port d_head d_model"]:
        """Wt of an event's readers, transposed to widen a d_head-wide gradient."""
        ports = event.span.stop - event.span.start
        weight = _within(self.weights, ports, self.view.d_model, self.view.d_head)
        torch.cat([projection.weight for projection in event.projections], out=weight)
        if (norm := event.norm) is not None:
            weight *= norm.weight.float()[:, None]
            if norm.kind == "layer":
                weight -= weight.mean(dim=1, keepdim=True)
        return weight.transpose(1, 2)


def columns_of(event: Reads) -> slice:
    """A reader's columns of the score matrix."""
    return event.span if isinstance(event, ReadsHeads) else slice(event.column, event.column + 1)


def _width(events: list[Reads]) -> int:
    return sum(columns.stop - columns.start for columns in map(columns_of, events))


def _places(events: list[Reads]) -> Iterator[slice]:
    """Where each event's readers stand among all."""
    start = 0
    for event in events:
        width = _width([event])
        yield slice(start, start + width)
        start += width


def _within(room: Float[Tensor, " number"], *shape: int) -> Tensor:
    return room[: prod(shape)].view(shape)


def _dot(a: Float[Tensor, "m long"], b: Float[Tensor, "n long"]) -> Float[Tensor, "m n"]:
    """a @ b.T in blocks of the long dimension, which is faster where m and n are small."""
    blocks = next(count for count in _BLOCKS if a.shape[1] % count == 0)
    left = a.view(len(a), blocks, -1).transpose(0, 1)
    right = b.view(len(b), blocks, -1).permute(1, 2, 0)
    return torch.bmm(left, right).sum(dim=0)
