"""What the readers of one stream are given: the reference's stream and the kept edges' differences.

Readers are served in blocks that may span layers. When the first of a block is due, what has been
written by then is added for all of them by one product of kept edges and differences, so that the
differences of all sources are read from memory once a block and not once a projection; what is
written in the meantime is added when a reader is due.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from circuits.intervention.ablation import AblatedRun
from circuits.intervention.differences import Differences
from circuits.models.view import ReadsHeads, ReadsInput, Rescales, Stream
from circuits.runtime.limits import INPUT_BYTES, INPUTS_AT_ONCE

_FEW = 4  # kept edges a reader, up to which adding them one by one beats a product with all

Reads = ReadsHeads | ReadsInput


class ReaderInputs:
    """Inputs of the readers at some columns, each to be asked for once in a forward pass."""

    def __init__(
        self,
        stream: Stream,
        differences: Differences,
        reference: AblatedRun,
        keep: Bool[Tensor, "source reader"],
        columns: Collection[int],
    ) -> None:
        self.stream, self.differences, self.reference = stream, differences, reference
        self.keep, self.columns = keep, columns
        self.blocks: dict[int, list[tuple[int, Reads]]] = {}  # column: the block that it is in
        self.made: _Block | None = None

    def of(
        self, event: Reads, columns: Sequence[int]
    ) -> Iterator[tuple[slice, Float[Tensor, "reader batch pos d_model"]]]:
        """Inputs of readers of one event, in parts: which of `columns`, and their inputs.

        columns: rising.
        """
        rows, deltas = self.differences.until(event)
        if not self.blocks:
            self._plan(deltas[0] if len(deltas) else self.reference.inputs[event])
        start = 0
        while start < len(columns):
            block = self.blocks[columns[start]]
            if self.made is None or self.made.readers is not block:
                self.made = None  # its memory, before the next is made
                self.made = self._make(block, deltas, rows)
            first = self.made.places[columns[start]]
            stop = start + 1
            while stop < len(columns) and columns[stop] in self.made.places:
                stop += 1
            inputs = self.made.inputs[first : first + stop - start]
            self._add(inputs, columns[start:stop], rows, deltas, self.made.seen)
            yield slice(start, stop), inputs
            start = stop

    def _plan(self, like: Tensor) -> None:
        """Blocks of readers in their order; none spans a norm on the stream, and one that spans
        several events holds them whole.
        """
        size = max(1, min(INPUTS_AT_ONCE, INPUT_BYTES // (like.numel() * like.element_size())))
        block: list[tuple[int, Reads]] = []
        for event in self.stream.events:
            if isinstance(event, Rescales):
                block = []
            if not isinstance(event, ReadsHeads | ReadsInput):
                continue
            first, stop = (
                (event.span.start, event.span.stop)
                if isinstance(event, ReadsHeads)
                else (event.column, event.column + 1)
            )
            mine = [column for column in range(first, stop) if column in self.columns]
            for start in range(0, len(mine), size):
                part = mine[start : start + size]
                if len(block) + len(part) > size:
                    block = []
                block += [(column, event) for column in part]
                self.blocks.update(dict.fromkeys(part, block))

    def _make(
        self,
        block: list[tuple[int, Reads]],
        deltas: Float[Tensor, "source batch pos d_model"],
        rows: list[int],
    ) -> _Block:
        """The block's inputs as far as these rows go."""
        first = self.reference.inputs[block[0][1]]
        shape = first.shape if len(deltas) == 0 else deltas.shape[1:]
        inputs = first.new_empty(len(block), *shape)
        for mine, (_, event) in zip(inputs, block, strict=True):
            mine.copy_(self.reference.inputs[event].view(shape))
        columns = [column for column, _ in block]
        self._add(inputs, columns, rows, deltas, 0)
        return _Block(block, inputs, len(rows))

    def _add(
        self,
        inputs: Float[Tensor, "reader batch pos d_model"],
        columns: Sequence[int],
        rows: list[int],
        deltas: Float[Tensor, "source batch pos d_model"],
        start: int,
    ) -> None:
        """Add the kept edges from the sources of `rows[start:]`."""
        if start == len(rows):
            return
        keep = self.keep[rows[start:]][:, list(columns)].T
        deltas = deltas[start:]
        if keep.sum() > _FEW * len(columns):
            inputs.flatten(1).addmm_(keep.to(deltas), deltas.flatten(1))
            return
        for mine, places in keep.nonzero().tolist():
            inputs[mine] += deltas[places]


class _Block:
    """Readers with their inputs, which hold what the first `seen` sources bring."""

    def __init__(self, readers: list[tuple[int, Reads]], inputs: Tensor, seen: int) -> None:
        self.readers, self.inputs, self.seen = readers, inputs, seen
        self.places = {column: place for place, (column, _) in enumerate(readers)}
