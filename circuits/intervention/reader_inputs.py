"""What the readers of one stream are given: the reference's stream and the kept edges' differences.

Readers are served in blocks. When the first of a block is due, what has been written by then is
added for all of them by one product of kept edges and differences; what is written in the meantime
is added when a reader is due. On a CPU a block may span layers, so that the differences of all
sources are read from memory once a block and not once a projection. An accelerator reads memory
quickly, and is given as few operations as can be: a block is one event's readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.intervention.ablation import AblatedRun
from circuits.intervention.differences import Differences
from circuits.models.placement import through
from circuits.models.view import ReadsHeads, ReadsInput, Rescales
from circuits.runtime.limits import INPUTS_AT_ONCE, input_bytes

_FEW = 4  # kept edges a reader, up to which a CPU adds them quicker one by one than by a product

Reads = ReadsHeads | ReadsInput
Inputs = Float[Tensor, "reader token d_model"]
Deltas = Float[Tensor, "source token d_model"]


class ReaderInputs:
    """Inputs of the readers that a circuit serves in one stream, in one forward pass.

    The served readers have places of their own, from 0, in the order in which they are due. A token
    is a position of an example.
    """

    def __init__(
        self,
        differences: Differences,
        reference: AblatedRun,
        readers: list[tuple[Reads, int]],
        keep: npt.NDArray[np.bool_],
    ) -> None:
        """readers: the events, with how many readers of theirs are served. keep: (served, source)
        with the sources in the order of the differences.
        """
        self.differences, self.reference, self.keep = differences, reference, keep
        self._like = reference.states.inputs[differences.index]
        self._on_cpu = self._like.device.type == "cpu"
        self._sections = self._planned(readers)
        self._only = {section.event: section for section in self._sections}
        self._block: tuple[int, Inputs] | None = None  # place of its first reader
        self._normed: tuple[_Section, Inputs] | None = None

    def of(self, event: Reads, rows: range) -> Iterator[tuple[slice, Inputs]]:
        """Inputs of readers of one event, through its norm if any, in parts: which of `rows`,
        and what they are given.
        """
        deltas = self.differences.until(event)
        row = rows.start
        while row < rows.stop:
            section = self._sections[row]
            stop = min(rows.stop, section.stop)
            inputs = self._of(section, deltas)[row - section.start : stop - section.start]
            yield slice(row - rows.start, stop - rows.start), inputs
            row = stop

    def of_single(self, event: ReadsInput) -> Float[Tensor, "token d_model"]:
        """The input of an event's only reader, through the event's norm if any."""
        deltas = self.differences.until(event)
        return self._of(self._only[event], deltas)[0]

    def _planned(self, readers: list[tuple[Reads, int]]) -> list[_Section]:
        """The section of every place. No block spans a norm on the stream, and one that spans
        several events holds them whole.
        """
        stream = self._like.numel() * self._like.element_size()
        size = max(1, min(INPUTS_AT_ONCE, input_bytes(self._like.device.type) // stream))
        numbers = dict(readers)
        sections: list[_Section] = []
        block: list[_Section] = []
        for event in self.differences.stream.events:
            if isinstance(event, Rescales):
                block = []
            if not isinstance(event, ReadsHeads | ReadsInput):
                continue
            left = numbers.get(event, 0)
            while left:
                n = min(left, size)
                if not self._on_cpu or sum(map(len, block)) + n > size:
                    block = []
                section = _Section(event, len(sections), len(sections) + n, block)
                block.append(section)
                sections += [section] * n
                left -= n
        return sections

    def _of(self, section: _Section, deltas: Deltas) -> Inputs:
        if self._normed is None or self._normed[0] is not section:
            self._normed = None  # its memory, before the next is made
            self._normed = section, self._made(section, deltas)
        return self._normed[1]

    def _made(self, section: _Section, deltas: Deltas) -> Inputs:
        """A section's inputs, with all that these sources bring, behind its norm."""
        block = section.block
        first = block[0].start
        if self._block is None or self._block[0] != first:
            self._block = None
            self._block = first, self._begun(block, deltas)
        inputs = self._block[1][section.start - first : section.stop - first]
        if section.seen < len(deltas):
            self._add(inputs, slice(section.start, section.stop), section.seen, deltas)
            section.seen = len(deltas)
        if section is block[-1]:
            self._block = None
        norm = section.event.norm
        return inputs if norm is None else through(norm.module, inputs)

    def _begun(self, block: list[_Section], deltas: Deltas) -> Inputs:
        """A block's inputs as far as these sources go."""
        rows, shape = slice(block[0].start, block[-1].stop), self._like.shape[-1:]
        bases = [self.reference.inputs[section.event].reshape(-1, *shape) for section in block]
        for section in block:
            section.seen = len(deltas)
        if len(block) == 1 and self._dense(self.keep[rows, : len(deltas)]):
            weights = self._kept[rows, : len(deltas)]
            dense_inputs = torch.addmm(bases[0].view(-1), weights, deltas.flatten(1))
            return dense_inputs.view(-1, *bases[0].shape)
        inputs = self._like.new_empty(rows.stop - rows.start, *bases[0].shape)
        for section, base in zip(block, bases, strict=True):
            inputs[section.start - rows.start : section.stop - rows.start] = base
        self._add(inputs, rows, 0, deltas)
        return inputs

    def _add(self, inputs: Inputs, rows: slice, start: int, deltas: Deltas) -> None:
        """Add the kept edges from the sources from `start` on."""
        block = rows, slice(start, len(deltas))
        edges = self.keep[block]
        if self._dense(edges):
            inputs.flatten(1).addmm_(self._kept[block], deltas[start:].flatten(1))
        elif edges.any():
            for reader, source in np.argwhere(edges).tolist():
                inputs[reader] += deltas[start + source]

    def _dense(self, edges: npt.NDArray[np.bool_]) -> bool:
        """Whether these are added by a product with all sources, kept or not."""
        return int(np.count_nonzero(edges)) > (_FEW * len(edges) if self._on_cpu else 0)

    @cached_property
    def _kept(self) -> Float[Tensor, "served source"]:
        return torch.from_numpy(self.keep).to(self._like.device, self._like.dtype)


@dataclass(eq=False)
class _Section:
    """Readers of one event, in one block.

    start, stop: their places. block: the sections that are begun together, this among them.
    seen: how many sources their inputs hold.
    """

    event: Reads
    start: int
    stop: int
    block: list[_Section]
    seen: int = 0

    def __len__(self) -> int:
        return self.stop - self.start
