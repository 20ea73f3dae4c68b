"""Names of nodes and edges, and where each stands in a score matrix.

A model is a residual stream that *sources* write to and *readers* read from. Rows of a score matrix
are sources, columns are readers, both in the order of computation:

    sources   input, then per layer  a0.h0 ... a0.h11, m0
    readers   per layer  a0.h0<q> ..., a0.h0<k> ..., a0.h0<v> ..., m0;  then logits

Under grouped-query attention a k or v reader is one KV head, `a5.kv1<k>`, read by all the query
heads of its group. An edge is written `a0.h3->a5.h1<q>`, `m2->logits`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from circuits.errors import CircuitsError

Kind = Literal["input", "head", "mlp", "logits"]
Port = Literal["q", "k", "v"]

_NAME = re.compile(r"a(?P<layer>\d+)\.(?:h|kv)(?P<head>\d+)(?:<(?P<port>[qkv])>)?|m(?P<mlp>\d+)")


@dataclass(frozen=True)
class Node:
    """A source or a reader, taken apart.

    layer, head: None where there is none (`input`, `logits`; MLPs have no head).
    port: q, k or v for a head's reader; then `head` counts KV heads for k and v.
    """

    name: str
    kind: Kind
    layer: int | None = None
    head: int | None = None
    port: Port | None = None

    @classmethod
    def parse(cls, name: str) -> Node:
        """Read a node's name; an unknown form is a `CircuitsError`."""
        if name in ("input", "logits"):
            return cls(name, "input" if name == "input" else "logits")
        match = _NAME.fullmatch(name)
        if match is None:
            raise CircuitsError(
                f"{name!r} is not a node; nodes are input, a5.h3, a5.h3<q>, a5.kv1<k>, m11, logits"
            )
        if match["mlp"] is not None:
            return cls(name, "mlp", int(match["mlp"]))
        port: Any = match["port"]
        return cls(name, "head", int(match["layer"]), int(match["head"]), port)


@dataclass(frozen=True)
class Layout:
    """The graph of a decoder-only model, by its sizes alone.

    n_kv_heads: equal to n_heads without grouped-query attention.
    parallel: attention and MLP of a layer both read the layer's input (GPT-NeoX, GPT-J).
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool = False

    def __post_init__(self) -> None:
        if min(self.n_layers, self.n_heads, self.n_kv_heads) < 1:
            raise CircuitsError(f"{self}: every count must be at least 1")
        if self.n_heads % self.n_kv_heads:
            raise CircuitsError(
                f"{self.n_heads} heads cannot share {self.n_kv_heads} KV heads evenly"
            )

    # -- names

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in row order."""
        names = ["input"]
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}" for head in range(self.n_heads)]
            names.append(f"m{layer}")
        return tuple(names)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Names of the readers, in column order."""
        kv = "h" if self.n_kv_heads == self.n_heads else "kv"
        names = []
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}<q>" for head in range(self.n_heads)]
            for port in "kv":
                names += [f"a{layer}.{kv}{head}<{port}>" for head in range(self.n_kv_heads)]
            names.append(f"m{layer}")
        return (*names, "logits")

    @cached_property
    def source_nodes(self) -> tuple[Node, ...]:
        """The sources taken apart, in row order."""
        return tuple(Node.parse(name) for name in self.sources)

    @cached_property
    def reader_nodes(self) -> tuple[Node, ...]:
        """The readers taken apart, in column order."""
        return tuple(Node.parse(name) for name in self.readers)

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """Names of the graph's nodes: the sources and `logits`."""
        return (*self.sources, "logits")

    # -- positions

    def head_rows(self, layer: int) -> slice:
        """Rows of a layer's heads."""
        start = 1 + layer * (self.n_heads + 1)
        return slice(start, start + self.n_heads)

    def mlp_row(self, layer: int) -> int:
        """Row of a layer's MLP."""
        return (layer + 1) * (self.n_heads + 1)

    def attention_columns(self, layer: int) -> slice:
        """Columns of a layer's q, then k, then v readers."""
        width = self.n_heads + 2 * self.n_kv_heads
        start = layer * (width + 1)
        return slice(start, start + width)

    def port_columns(self, layer: int, port: Port) -> slice:
        """Columns of one of q, k, v in a layer."""
        start = self.attention_columns(layer).start
        if port == "q":
            return slice(start, start + self.n_heads)
        start += self.n_heads + (self.n_kv_heads if port == "v" else 0)
        return slice(start, start + self.n_kv_heads)

    def mlp_column(self, layer: int) -> int:
        """Column of a layer's MLP reader."""
        return (layer + 1) * (self.n_heads + 2 * self.n_kv_heads + 1) - 1

    @property
    def logits_column(self) -> int:
        """Column of the logits reader: the last."""
        return self.n_layers * (self.n_heads + 2 * self.n_kv_heads + 1)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of sources, number of readers."""
        return 1 + self.n_layers * (self.n_heads + 1), self.logits_column + 1

    def visible(self, column: int) -> int:
        """How many of the sources, from the first, a reader can read."""
        if column == self.logits_column:
            return self.shape[0]
        layer, offset = divmod(column, self.n_heads + 2 * self.n_kv_heads + 1)
        rows = self.head_rows(layer)
        reads_heads = offset == self.n_heads + 2 * self.n_kv_heads and not self.parallel
        end: int = rows.stop if reads_heads else rows.start
        return end

    @cached_property
    def mask(self) -> Bool[Tensor, "source reader"]:
        """True where an edge exists."""
        mask = torch.zeros(self.shape, dtype=torch.bool)
        for column in range(self.shape[1]):
            mask[: self.visible(column), column] = True
        return mask

    @cached_property
    def n_edges(self) -> int:
        """Number of edges of the whole graph."""
        return int(self.mask.sum())

    @cached_property
    def feeds(self) -> tuple[tuple[int, ...], ...]:
        """For each reader, the rows of the sources that are computed from it (none for logits)."""
        group = self.n_heads // self.n_kv_heads
        rows: list[tuple[int, ...]] = []
        for node in self.reader_nodes:
            if node.kind == "logits" or node.layer is None:
                rows.append(())
            elif node.kind == "mlp" or node.head is None:
                rows.append((self.mlp_row(node.layer),))
            else:
                first = self.head_rows(node.layer).start
                size = 1 if node.port == "q" else group
                start = first + node.head * size
                rows.append(tuple(range(start, start + size)))
        return tuple(rows)

    # -- edges by name

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.sources)}

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.readers)}

    def edge(self, name: str) -> tuple[int, int]:
        """Row and column of an edge, `m0->logits`; unknown or impossible edges are refused."""
        source, arrow, reader = name.partition("->")
        if not arrow:
            raise CircuitsError(f"{name!r} is not an edge; write SOURCE->READER, as in m0->logits")
        if source not in self._rows:
            raise CircuitsError(f"{name!r}: no source {source!r} in this model ({self.summary})")
        if reader not in self._columns:
            hint = " (a head's reader is a5.h3<q>, <k> or <v>)" if reader in self._rows else ""
            raise CircuitsError(
                f"{name!r}: no reader {reader!r} in this model ({self.summary}){hint}"
            )
        row, column = self._rows[source], self._columns[reader]
        if not self.mask[row, column]:
            raise CircuitsError(f"{name!r}: {source} is computed after {reader} reads")
        return row, column

    def edge_name(self, row: int, column: int) -> str:
        """The name of the edge at a place of the matrix."""
        return f"{self.sources[row]}->{self.readers[column]}"

    @property
    def summary(self) -> str:
        """The sizes in words."""
        kv = "" if self.n_kv_heads == self.n_heads else f", {self.n_kv_heads} KV heads"
        return f"{self.n_layers} layers, {self.n_heads} heads{kv}"

    def to_dict(self) -> dict[str, Any]:
        """JSON form: the sizes."""
        return {
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_kv_heads,
            "parallel": self.parallel,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Layout:
        """Read `to_dict`'s form."""
        try:
            return cls(**value)
        except TypeError as error:
            raise CircuitsError(f"not a layout: {value!r}") from error
