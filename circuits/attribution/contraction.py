"""Sources meet readers: steps 3 and 4 of the engine, one matrix product for many readers.

Readers wait for each other, so that what the sources wrote is read once for all of them: it does
not change afterwards, unless a norm rescales the stream. They meet in blocks of as many examples,
or positions of one example, as the memory for it holds: an accelerator takes longer to start a
small operation than to do it. Buffers are made once for all blocks, for on a CPU the first touch of
fresh memory costs more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attribution.narrow import narrow_products
from circuits.attribution.reader_gradients import ReaderGradients, Reads
from circuits.models import DecomposedStream, HookedModel, SourceActivations
from circuits.models.norm import Norm
from circuits.models.view import Event, ReadsHeads, ReadsInput, Rescales, Stream
from circuits.runtime.limits import READERS_AT_ONCE

Block = tuple[slice, slice]
"""Examples, and positions of them."""

_CUTS = (32, 16, 8, 4, 2, 1)
_PRODUCTS_CPU, _PRODUCTS_DEVICE = 8, 64  # that a long one is cut into, all examples together


@dataclass(frozen=True)
class _Round:
    """passed: events of the walk since the last round. direct: readers whose G meets the sources
    then. normed: those whose norms, with the c of each pass, do.
    """

    passed: tuple[Event, ...]
    direct: tuple[Reads, ...]
    normed: tuple[tuple[ReadsHeads, Norm], ...]


class Contraction:
    """One stream's sources against some of its readers, as often as these have something new.

    What is of single passes is met for several of them at once, `n_passes` of them.
    """

    def __init__(
        self,
        model: HookedModel,
        stream: Stream,
        runs: Sequence[SourceActivations],
        gradients: ReaderGradients,
        lengths: list[int],
        direct: Set[Reads],
        room: int,
        *,
        norms: bool,
        n_passes: int = 1,
    ) -> None:
        """lengths: of each example, positions that are no padding. direct: readers whose G meets
        the sources. room: bytes for it. norms: whether all readers' norms do, with the c of each
        pass. n_passes: passes at once, at most.
        """
        self.view, self.device, self.dtype = model.view, gradients.device, model.hf.dtype
        self.stream, self.runs, self.gradients = stream, runs, gradients
        self.rounds = _rounds(stream, direct, READERS_AT_ONCE // n_passes, norms=norms)
        self.examples, rows = len(lengths), len(stream) * len(runs)
        readers = n_passes * max((_width(round_.direct) for round_ in self.rounds), default=0)
        normed = n_passes * max((len(round_.normed) for round_ in self.rounds), default=0)
        # What norms saw is stacked, and what they put out stands beside it.
        position = 4 * self.view.d_model * (rows + readers + 2 * normed)
        self.blocks = list(blocks(lengths, max(1, room // position)))
        self.rows, self.readers = rows, readers
        self._direct = self._places([event for round_ in self.rounds for event in round_.direct])
        self._normed = self._places([event for round_ in self.rounds for event, _ in round_.normed])

    def _places(self, events: Sequence[Reads]) -> tuple[int, Int[Tensor, " reader"]]:
        """How many readers these are, and where each of the layout's stands among them; the rest
        stands behind them.
        """
        count, start = _width(events), 0
        slots = torch.full((self.view.layout.shape[1],), count)
        for event in events:
            end = start + _width([event])
            slots[columns_of(event)] = torch.arange(start, end)
            start = end
        return count, slots.to(self.device)

    def add_to(self, scores: Float[Tensor, "n_passes batch source reader"]) -> None:
        """Add the scores of the edges from the stream's sources to these readers."""
        if not self.rounds:
            return
        both = [
            torch.zeros(len(scores), self.examples, len(self.stream), count + 1, device=self.device)
            for count, _ in (self._direct, self._normed)
        ]
        with narrow_products(self.device, narrow=self.dtype.itemsize < 4):
            buffers = _Buffers(self)
            for block in self.blocks:
                self._meet(block, buffers, *(total[:, block[0]] for total in both))
        unseen = ~self.view.layout.mask[self.stream.rows].to(self.device)
        for total, (_, slots) in zip(both, (self._direct, self._normed), strict=True):
            # The column behind the readers is zero, and stands for all that are not among them.
            edge_scores = total.index_select(3, slots)
            scores[:, :, self.stream.rows] += edge_scores.masked_fill_(unseen, 0)

    def _meet(self, block: Block, buffers: _Buffers, direct: Tensor, normed: Tensor) -> None:
        """Fill the scores of a block's examples, pass by pass, readers in the order of the walk."""
        wide = DecomposedStream(self.stream, self.runs, block, buffers.sources)
        start = 0
        for round_ in self.rounds:
            # Then the stream holds what these wrote, or is rescaled by their norm.
            for event in round_.passed:
                wide.pass_by(event)
            if round_.direct:
                end = start + _width(round_.direct)
                rows, delta = self._seen(wide, round_.direct)
                edge_scores = self._by_gradients(delta, block, buffers, round_.direct, len(direct))
                direct[:, :, rows, start:end] += edge_scores
                start = end
            if round_.normed:
                rows, delta = self._seen(wide, [event for event, _ in round_.normed])
                self._by_norms(normed[:, :, rows], delta, block, round_.normed)

    def _seen(
        self, wide: DecomposedStream, events: Sequence[Reads]
    ) -> tuple[slice, Float[Tensor, "source batch pos d_model"]]:
        """From the first to the last source that any of these readers sees: their places in the
        stream, and what they brought.
        """
        seen = [self.view.layout.visible(columns_of(event).start) for event in events]
        rows = range(min(span.start for span in seen), max(span.stop for span in seen))
        first = self.stream.rows.start
        return slice(rows.start - first, rows.stop - first), wide.seen(rows)

    def _by_gradients(
        self,
        delta: Float[Tensor, "source batch pos d_model"],
        block: Block,
        buffers: _Buffers,
        events: Sequence[Reads],
        n_passes: int,
    ) -> Float[Tensor, "n_passes batch source reader"]:
        """What the sources wrote in the direction of each reader's gradient."""
        width, start = _width(events), 0
        widened = _within(buffers.readers, width, n_passes, *delta.shape[1:])
        for event in events:
            end = start + _width([event])
            if isinstance(event, ReadsHeads):
                # The gradient at q, k or v is d_head wide: G = g W_transposed is as wide as the
                # stream that the sources wrote to.
                g = self.gradients.projected[event][:n_passes, *block].permute(3, 0, 1, 2, 4)
                wide = widened[start:end].flatten(1, 3)
                torch.bmm(g.flatten(1, 3), buffers.weight(event), out=wide)
            else:
                widened[start] = self.gradients.wide[event][:n_passes, *block]
            start = end
        # score(u, r) is the sum of delta_u times G_r over positions and dimensions. So it is one
        # matrix product for each example: positions and dimensions are its long axis, sources its
        # rows, readers and passes its columns.
        products = _PRODUCTS_CPU if self.device.type == "cpu" else _PRODUCTS_DEVICE
        edge_scores = _dot(delta.flatten(2), widened.flatten(0, 1).flatten(2), products)
        by_pass: Tensor = edge_scores.unflatten(2, (width, n_passes)).permute(3, 0, 1, 2)
        return by_pass

    def _by_norms(
        self,
        total: Float[Tensor, "n_passes batch source reader"],
        delta: Float[Tensor, "source batch pos d_model"],
        block: Block,
        events: Sequence[tuple[ReadsHeads, Norm]],
    ) -> None:
        """Take off what the sources wrote in the direction of what each reader's norm saw, times
        c: at once for norms of a kind that as many readers stand behind.
        """
        n_passes = len(total)
        c = self.gradients.c[self.stream][:n_passes, *block]
        for (width, *_), group in groupby(events, key=_alike):
            behind = list(group)
            saw = self.gradients.normed[:n_passes]
            xhat = behind[0][1].normalise(
                torch.stack([seen[norm].x[block] for seen in saw for _, norm in behind])
            )
            # How far each source points along what each norm saw, once for all of its readers, and
            # then that times each reader's c.
            along = torch.einsum("ubpd,nbpd->bpun", delta, xhat).unflatten(3, (n_passes, -1))
            spans = [self.gradients.c_slices[event] for event, _ in behind]
            columns = slice(spans[0].start, spans[-1].stop)
            by_norm = c[..., columns].unflatten(-1, (len(behind), width))
            part = torch.einsum("bpukn,kbpnr->kbunr", along, by_norm).flatten(3)
            total[..., columns].sub_(part, alpha=1 / self.view.d_model)


class _Buffers:
    """Memory for a block's source outputs, readers' gradients, and one event's weights."""

    def __init__(self, of: Contraction) -> None:
        width = of.view.d_model
        tokens = max(_tokens(block) for block in of.blocks)
        self.sources = torch.empty(of.rows * tokens * width, device=of.device)
        self.readers = torch.empty(of.readers * tokens * width, device=of.device)
        ports = [_width([event]) for round_ in of.rounds for event in round_.direct]
        self._weights = torch.empty(
            max(ports, default=0) * width * of.view.d_head, device=of.device
        )
        self._shape = (width, of.view.d_head)

    def weight(self, event: ReadsHeads) -> Float[Tensor, "port d_head d_model"]:
        """Wt of an event's readers, transposed to widen a d_head-wide gradient."""
        weight = _within(self._weights, _width([event]), *self._shape)
        torch.cat([projection.weight for projection in event.projections], out=weight)
        if (norm := event.norm) is not None:
            weight *= norm.weight.float()[:, None]
            if norm.kind == "layer":
                weight -= weight.mean(dim=1, keepdim=True)
        return weight.transpose(1, 2)


def _rounds(stream: Stream, direct: Set[Reads], most: int, *, norms: bool) -> list[_Round]:
    """The walk in rounds. Norms' readers wait to the end, or until the stream is rescaled: they are
    few numbers, of which those for sources behind a reader are put to zero.
    """
    rounds: list[_Round] = []
    passed: list[Event] = []
    waiting: list[Reads] = []
    normed: list[tuple[ReadsHeads, Norm]] = []
    for event in (*stream.events, None):
        if isinstance(event, ReadsHeads | ReadsInput):
            if event in direct:
                waiting.append(event)
            if norms and isinstance(event, ReadsHeads) and event.norm is not None:
                normed.append((event, event.norm))
            continue
        # A norm on the stream rescales all that stands in it, and the walk ends with None: who has
        # waited must have met the sources before either.
        changes = event is None or isinstance(event, Rescales)
        if (changes and (waiting or normed)) or _width(waiting) >= max(1, most):
            rounds.append(_Round(tuple(passed), tuple(waiting), tuple(normed) if changes else ()))
            passed, waiting, normed = [], [], [] if changes else normed
        if event is not None:
            passed.append(event)
    return rounds


def blocks(lengths: list[int], size: int) -> Iterator[Block]:
    """All examples whole, several at a time, or each in parts of its positions, padding left out.

    Args:
        lengths: of each example, positions that are no padding.
        size: positions of all a block's examples together, at most.
    """
    together = size // max(lengths)
    if together:
        for start in range(0, len(lengths), together):
            several = slice(start, min(start + together, len(lengths)))
            yield several, slice(0, max(lengths[several]))
        return
    for example, length in enumerate(lengths):
        for start in range(0, length, size):
            yield slice(example, example + 1), slice(start, min(start + size, length))


def columns_of(event: Reads) -> slice:
    """A reader's columns of the score matrix."""
    return event.span if isinstance(event, ReadsHeads) else slice(event.column, event.column + 1)


def _width(events: Sequence[Reads]) -> int:
    return sum(columns.stop - columns.start for columns in map(columns_of, events))


def _alike(pair: tuple[ReadsHeads, Norm]) -> tuple[int, str, float]:
    event, norm = pair
    return _width([event]), norm.kind, norm.eps


def _tokens(block: Block) -> int:
    return prod(span.stop - span.start for span in block)


def _within(room: Float[Tensor, " number"], *shape: int) -> Tensor:
    return room[: prod(shape)].view(shape)


def _dot(
    a: Float[Tensor, "m batch long"], b: Float[Tensor, "n batch long"], products: int
) -> Float[Tensor, "batch m n"]:
    """a @ b.T of each example, cut along the long dimension, which is faster where m and n are
    small: into as many as make so many products of all examples.
    """
    batch, long = a.shape[1:]
    # The long axis becomes (cut, part): a product for each example and cut, summed over the cuts.
    cuts = next(cut for cut in _CUTS if long % cut == 0 and (cut == 1 or cut * batch <= products))
    left, right = (x.reshape(len(x), batch * cuts, -1) for x in (a, b))
    partial_sums = torch.bmm(left.transpose(0, 1), right.permute(1, 2, 0))
    return partial_sums.view(batch, cuts, len(a), len(b)).sum(dim=1)
