"""Names of nodes and edges, and where each stands in a score matrix.

A model is a residual stream that *sources* write to and *readers* read from. Rows of a score matrix
are sources, columns are readers, both in the order of computation:

    sources   input, then per layer  a0.h0 ... a0.h11, m0
    readers   per layer  a0.h0<q> ..., a0.h0<k> ..., a0.h0<v> ..., m0;  then logits

Under grouped-query attention a k or v reader is one KV head, `a5.kv1<k>`, read by all the query
heads of its group. An edge is written `a0.h3->a5.h1<q>`, `m2->logits`.

An encoder-decoder has two streams. The encoder's nodes come first and carry `enc.` (`enc.a0.h3`);
a decoder layer's cross-attention is `x0.h3`, whose k and v readers read the encoder's stream. Where
the stream itself is normalised (post-norm models), `bias` is a source: see `models/stream.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from jaxtyping import Bool
from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.node import PORTS, AttentionPlace, MLPPlace, Node, Port

MOST_HEADS = 100_000
"""Six times those of Llama 3.1 405B: a file that says more would only fill the memory."""


@dataclass(frozen=True)
class Layout:
    """The graph of a model, by its sizes alone: rows and columns of its score matrix.

    Rows are sources, columns are readers.

    Attributes:
        n_layers: of the decoder.
        n_heads: of each attention.
        n_kv_heads: equal to n_heads without grouped-query attention.
        parallel: attention and MLP of a layer both read the layer's input (GPT-NeoX, GPT-J).
        n_encoder_layers: more than 0 for an encoder-decoder, whose decoder layers cross-attend.
        bias: each stream has a source of constants, because norms rescale the stream itself (BART).
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool = False
    n_encoder_layers: int = 0
    bias: bool = False

    def __post_init__(self) -> None:
        if min(self.n_layers, self.n_heads, self.n_kv_heads) < 1 or self.n_encoder_layers < 0:
            raise CircuitsError(f"{self}: every count must be at least 1")
        if (heads := (self.n_layers + self.n_encoder_layers) * self.n_heads) > MOST_HEADS:
            raise CircuitsError(f"{heads} heads in all: no model has so many; is the file damaged?")
        if self.n_heads % self.n_kv_heads:
            raise CircuitsError(
                f"{self.n_heads} heads cannot share {self.n_kv_heads} KV heads evenly"
            )

    # -- the walk through the model, in the order of computation

    @cached_property
    def _walk(self) -> _Walk:
        walk = _Walk(self)
        if self.n_encoder_layers:
            walk.stream(self.n_encoder_layers, encoder=True)
        walk.stream(self.n_layers, encoder=False)
        return walk

    @property
    def attentions(self) -> tuple[AttentionPlace, ...]:
        """Every attention, in order: encoder layers, then per decoder layer self (and cross)."""
        return tuple(self._walk.attentions)

    @property
    def mlps(self) -> tuple[MLPPlace, ...]:
        """Every MLP, in order: encoder layers, then decoder layers."""
        return tuple(self._walk.mlps)

    @property
    def stream_rows(self) -> tuple[slice, ...]:
        """Rows of each stream: of the encoder's, if any, and of the decoder's."""
        return tuple(self._walk.streams)

    # -- names

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, in row order."""
        return tuple(self._walk.sources)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Names of the readers, in column order."""
        return tuple(self._walk.readers)

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

    # -- positions. `layer` counts attentions (or MLPs), which are layers in a decoder-only model

    def head_rows(self, layer: int) -> slice:
        """Rows of a layer's heads.

        Args:
            layer: of the decoder, from 0.
        """
        return self._walk.attentions[layer].rows

    def mlp_row(self, layer: int) -> int:
        """Row of a layer's MLP.

        Args:
            layer: of the decoder, from 0.
        """
        return self._walk.mlps[layer].row

    def attention_columns(self, layer: int) -> slice:
        """Columns of a layer's q, then k, then v readers.

        Args:
            layer: of the decoder, from 0.
        """
        columns = self._walk.attentions[layer].columns
        return slice(columns[0].start, columns[2].stop)

    def port_columns(self, layer: int, port: Port) -> slice:
        """Columns of one of q, k, v in a layer.

        Args:
            layer: of the decoder, from 0.
            port: "q", "k" or "v".

        Returns:
            One column for each head, of k and v for each KV head.
        """
        return self._walk.attentions[layer].columns[PORTS.index(port)]

    def mlp_column(self, layer: int) -> int:
        """Column of a layer's MLP reader.

        Args:
            layer: of the decoder, from 0.
        """
        return self._walk.mlps[layer].column

    @property
    def logits_column(self) -> int:
        """Column of the logits reader: the last."""
        return len(self.readers) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """Number of sources, number of readers."""
        return len(self.sources), len(self.readers)

    def visible(self, column: int) -> range:
        """Rows of the sources that a reader can read.

        Args:
            column: of the reader.
        """
        return self._walk.visible[column]

    def rows_seen(self, column: int) -> slice:
        """`visible` as a slice.

        Args:
            column: of the reader.
        """
        rows = self.visible(column)
        return slice(rows.start, rows.stop)

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """Rows of the sources that nothing is upstream of: `input`, and `bias` where there is."""
        nodes = enumerate(self.source_nodes)
        return tuple(row for row, node in nodes if node.kind in ("input", "bias"))

    @cached_property
    def mask(self) -> Bool[Tensor, "source reader"]:
        """True where an edge exists."""
        mask = torch.zeros(self.shape, dtype=torch.bool)
        for column, rows in enumerate(self._walk.visible):
            mask[rows.start : rows.stop, column] = True
        return mask

    @cached_property
    def n_edges(self) -> int:
        """Number of edges of the whole graph."""
        return int(self.mask.sum())

    @cached_property
    def feeds(self) -> tuple[tuple[int, ...], ...]:
        """For each reader, the rows of the sources that are computed from it (none for logits)."""
        rows: list[tuple[int, ...]] = [()] * self.shape[1]
        group = self.n_heads // self.n_kv_heads
        for attention in self.attentions:
            for port, columns in zip(PORTS, attention.columns, strict=True):
                size = 1 if port == "q" else group
                for head, column in enumerate(range(columns.start, columns.stop)):
                    first = attention.rows.start + head * size
                    rows[column] = tuple(range(first, first + size))
        for mlp in self.mlps:
            rows[mlp.column] = (mlp.row,)
        return tuple(rows)

    # -- edges by name

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.sources)}

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.readers)}

    def edge(self, name: str) -> tuple[int, int]:
        """Where an edge stands in the matrix.

        Args:
            name: such as "m0->logits".

        Returns:
            Row and column.

        Raises:
            CircuitsError: for an unknown or impossible edge.
        """
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
            why = "is computed after" if row >= self.visible(column).stop else "is not where"
            raise CircuitsError(f"{name!r}: {source} {why} {reader} reads")
        return row, column

    def edge_name(self, row: int, column: int) -> str:
        """The name of the edge at a place of the matrix.

        Args:
            row: of the source.
            column: of the reader.

        Returns:
            The name, such as "m0->logits".
        """
        return f"{self.sources[row]}->{self.readers[column]}"

    @property
    def summary(self) -> str:
        """The sizes in words."""
        encoder = f"{self.n_encoder_layers} encoder and " if self.n_encoder_layers else ""
        kv = "" if self.n_kv_heads == self.n_heads else f", {self.n_kv_heads} KV heads"
        decoder = "decoder layers" if encoder else "layers"
        return f"{encoder}{self.n_layers} {decoder}, {self.n_heads} heads{kv}"

    def to_dict(self) -> dict[str, object]:
        """JSON form: the sizes."""
        return {
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_kv_heads,
            "parallel": self.parallel,
            **({"n_encoder_layers": self.n_encoder_layers} if self.n_encoder_layers else {}),
            **({"bias": True} if self.bias else {}),
        }

    @classmethod
    def from_dict(cls, value: object) -> Layout:
        """Read `to_dict`'s form.

        Args:
            value: JSON values.

        Returns:
            The layout.

        Raises:
            CircuitsError: for a size that this version does not know, by its name.
        """
        if isinstance(value, cls):
            return value
        field_types = {field.name: field.type for field in fields(cls)}
        if not isinstance(value, dict):
            raise CircuitsError(f"not a layout: {value!r}")
        for name, size in value.items():
            if name not in field_types:
                raise CircuitsError(
                    f"not a layout of this version: unknown {name!r} (known: "
                    f"{', '.join(field_types)})"
                )
            if type(size).__name__ != field_types[name]:
                raise CircuitsError(f"not a layout: {name} is {size!r}, not {field_types[name]}")
        try:
            return cls(**value)
        except TypeError as error:
            raise CircuitsError(f"not a layout: {value!r}") from error

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """How a layout stands in a result file: as `to_dict` says."""
        return core_schema.no_info_plain_validator_function(
            cls.from_dict,
            json_schema_input_schema=core_schema.dict_schema(core_schema.str_schema()),
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls.to_dict, when_used="json"
            ),
        )


class _Walk:
    """Sources and readers as they come, with the rows that each reader sees."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.sources: list[str] = []
        self.readers: list[str] = []
        self.visible: list[range] = []
        self.attentions: list[AttentionPlace] = []
        self.mlps: list[MLPPlace] = []
        self.streams: list[slice] = []

    def stream(self, layers: int, *, encoder: bool) -> None:
        """Walk through all layers of one stream."""
        prefix = "enc." if encoder else ""
        start = len(self.sources)
        self.sources.append(f"{prefix}input")
        if self.layout.bias:
            self.sources.append(f"{prefix}bias")
        for layer in range(layers):
            before = range(start, len(self.sources))
            self._attention(before, before, layer, encoder=encoder)
            if self.streams and not encoder:
                own_stream = range(start, len(self.sources))
                encoder_stream = range(self.streams[0].start, self.streams[0].stop)
                self._attention(own_stream, encoder_stream, layer, encoder=False, cross=True)
            sees = before if self.layout.parallel else range(start, len(self.sources))
            self.mlps.append(MLPPlace(len(self.sources), len(self.readers), layer, encoder))
            self._read([self.mlps[-1].name], sees)
            self.sources.append(self.mlps[-1].name)
        if not encoder:
            self._read(["logits"], range(start, len(self.sources)))
        self.streams.append(slice(start, len(self.sources)))

    def _attention(
        self, queries: range, keys: range, layer: int, *, encoder: bool, cross: bool = False
    ) -> None:
        heads, kv_heads = self.layout.n_heads, self.layout.n_kv_heads
        kv = "h" if kv_heads == heads else "kv"
        first, row = len(self.readers), len(self.sources)
        ends = (first, first + heads, first + heads + kv_heads, first + heads + 2 * kv_heads)
        columns = (slice(*ends[:2]), slice(*ends[1:3]), slice(*ends[2:]))
        attention = AttentionPlace(slice(row, row + heads), columns, layer, encoder, cross)
        self._read([f"{attention.prefix}.h{head}<q>" for head in range(heads)], queries)
        for port in "kv":
            self._read([f"{attention.prefix}.{kv}{head}<{port}>" for head in range(kv_heads)], keys)
        self.sources += [f"{attention.prefix}.h{head}" for head in range(heads)]
        self.attentions.append(attention)

    def _read(self, names: list[str], sees: range) -> None:
        self.readers += names
        self.visible += [sees] * len(names)
