"""The order in which a search takes a graph apart."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import groupby

from jaxtyping import Bool
from torch import Tensor

from circuits.graph import Layout
from circuits.options.choices import TrialOrder


class RemovalOrder(ABC):
    """The graph as it shrinks: groups of candidates, each a name for the edges that go with it.

    mask: the edges left. n_done: candidates decided on, untried ones included.
    size: candidates in all.
    """

    size: int

    def __init__(self, layout: Layout) -> None:
        self.layout, self.mask, self.n_done = layout, layout.mask.clone(), 0

    @abstractmethod
    def groups(self) -> Iterator[list[str]]:
        """Cuts to decide together; each group sees what became of those before it."""

    @abstractmethod
    def remove(self, mask: Bool[Tensor, "source reader"], candidate: str) -> None:
        """Take a candidate's edges out of a mask."""

    def source(self, candidate: str) -> str:
        """The source whose edges a candidate removes."""
        return candidate.partition("->")[0]

    def drop_unread(self, column: int) -> bool:
        """Drop a reader's edges if nothing reads its node any more; whether it was so."""
        rows = list(self.layout.feeds[column])
        unread = bool(rows) and not bool(self.mask[rows].any())
        if unread:
            self.mask[:, column] = False
        return unread


class EdgeOrder(RemovalOrder):
    """Reader by reader from the logits to the input; the edges into a reader in `order`."""

    def __init__(self, layout: Layout, order: TrialOrder, seed: int) -> None:
        super().__init__(layout)
        self.size = layout.n_edges
        self.order, self.draw = order, random.Random(f"acdc {seed}")

    def groups(self) -> Iterator[list[str]]:
        """The edges into each reader that something still reads."""
        for column in reversed(range(self.layout.shape[1])):
            rows = self.mask[:, column].nonzero().flatten().tolist()
            if self.order == "backward":
                rows.reverse()
            elif self.order == "random":
                self.draw.shuffle(rows)
            if not self.drop_unread(column):
                yield [self.layout.edge_name(row, column) for row in rows]
            self.n_done += len(rows)

    def remove(self, mask: Bool[Tensor, "source reader"], candidate: str) -> None:
        """Take one edge out."""
        mask[self.layout.edge(candidate)] = False


class NodeOrder(RemovalOrder):
    """Attentions and MLPs from the last to the first; a candidate is a node with its edges."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._rows = {name: row for row, name in enumerate(layout.sources)}
        self._nodes = [node for node in layout.source_nodes if node.kind in ("head", "mlp")]
        self.size = len(self._nodes)

    def groups(self) -> Iterator[list[str]]:
        """The heads of each attention, or its MLP: they do not read one another."""
        readers: dict[int, list[int]] = {}
        for column, rows in enumerate(self.layout.feeds):
            for row in rows:
                readers.setdefault(row, []).append(column)
        module = groupby(reversed(self._nodes), key=lambda node: node.name.partition(".h")[0])
        for _, alike in module:
            names = [node.name for node in alike]
            yield [name for name in names if self.mask[self._rows[name]].any()]
            for name in names:
                for column in readers[self._rows[name]]:
                    self.drop_unread(column)
            self.n_done += len(names)

    def remove(self, mask: Bool[Tensor, "source reader"], candidate: str) -> None:
        """Take all edges out of one node."""
        mask[self._rows[candidate]] = False
