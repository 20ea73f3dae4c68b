"""The graph files of EAP-IG and of MIB's circuit track, read and written.

A file holds `cfg` (n_layers, n_heads, parallel_attn_mlp, d_model), `nodes` (`a0.h1`: whether it is
in the circuit) and `edges` (`input->a0.h0<q>`: a `score`, and whether it is `in_graph`), as JSON or
as a `.pt` of matrices. Source: `Graph.to_json`, `from_json`, `to_pt`, `from_pt` in
hannamw/EAP-IG, src/eap/graph.py; MIB's `importances.json` is written by the same functions.

**Sign.** There a score is (corrupted - clean) . gradient of a *loss*, and the loss is minus the
metric (`partial(metric, loss=True)` in EAP-IG's notebooks and in MIB's run_attribution.py). Two
minus signs: a file's positive edge supports the behaviour, as ours does, and nothing is flipped. A
file whose scores were made with the metric itself (`loss=False`) is read with score_sign="metric"
and is flipped. Scores are kept signed; files of absolute or unsigned scores (information flow
routes, UGS) stay as they are.

**Scale.** EAP-IG takes the mean of the loss over a batch and then divides by the number of
examples, so its scores are ours divided by the batch size. Rankings are equal; nothing is rescaled.

**Grouped-query attention.** There every query head has a k and a v reader of its own (*ungrouped*),
here the heads of a group share one. A gradient at a shared reader is the sum of the gradients at
its copies, so reading with `kv_heads` sums a group's scores, exactly. Writing divides a score
evenly over the copies: sums are kept, reading back gives the same scores, and each copy weighs what
keeping it is worth on average. Scores that are no gradients do not add up so: under information
flow routes each copy reads what the shared reader does and has its share, so they are written
undivided, and are read with kv_reduction="mean". A circuit's edge becomes all of its copies; a file
that keeps some copies of an edge and not others is no circuit of the grouped graph and is refused.
Without `kv_heads` a file is read as the ungrouped graph that it is.

**Nodes.** A node's score there is what it is here (`NodeScores`), with an edge's sign and scale,
and is converted. What else a file can say, of nodes and of neurons, is in `accounting.py`: nothing
is passed over.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, SupportsFloat, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.accounting import account, require_agreement, require_nodes, rows, sizes
from circuits.graph.circuit import Circuit
from circuits.graph.layout import Layout
from circuits.graph.node_scores import NodeScores
from circuits.graph.provenance import ImportRecord, Provenance
from circuits.graph.scores import EdgeScores
from circuits.graph.ungrouped import (
    reader_homes,
    ungrouped,
    ungrouped_circuit,
    ungrouped_scores,
)
from circuits.options.choices import ScoreSign
from circuits.options.exchange import ImportOptions
from circuits.runtime.files import atomic_path, read_json, write_json

AS_IN_FILE = ImportOptions()
_SIGNS: dict[ScoreSign, float] = {"loss": 1.0, "metric": -1.0}


@dataclass(frozen=True)
class GraphFile:
    """A graph file of EAP-IG or MIB, read but not yet converted.

    wide: the ungrouped graph that it describes. record: its content.
    Malformed edges are a CircuitsError that names the file and the edge, when they are asked for.
    """

    path: Path
    wide: Layout
    record: dict[str, object]

    @classmethod
    def read(cls, path: str | Path) -> GraphFile:
        """Read a .json or a .pt; a key that is none of EAP-IG's is refused by name."""
        path = Path(path)
        record = _read(path)
        wide = _layout(path, record)
        account(path, wide, record)
        return cls(path, wide, record)

    @property
    def d_model(self) -> int | None:
        """The model's width, where the file says it."""
        width = sizes(self.record).get("d_model")
        return width if isinstance(width, int) else None

    @property
    def has_scores(self) -> bool:
        """Whether any edge has a score, or any other number than zero for one."""
        if "edges" in self.record:
            edges = self._named_edges().values()
            return any(isinstance(edge, dict) and edge.get("score") for edge in edges)
        return "edges_scores" in self.record and bool(self._edges("score").any())

    @property
    def has_circuit(self) -> bool:
        """Whether any edge is in the graph."""
        return bool(self._edges("in_graph").any())

    def scores(self, how: ImportOptions = AS_IN_FILE) -> EdgeScores:
        """Edge scores in this package's sign.

        Args:
            how: how the file is read. With `kv_heads`, the copies of a k or v reader become one;
                without, the graph stays the file's own, ungrouped.

        Returns:
            The scores.

        Raises:
            CircuitsError: where no edge has a score.
        """
        matrix = self._edges("score")
        if not matrix.any():
            whose = "; its scores are of nodes" if self.node_scores() else ""
            raise CircuitsError(f"{self.path}: the scores of its edges are all zero{whose}")
        layout = self._narrow(how)
        homes = reader_homes(self.wide, layout)
        total = torch.zeros(layout.shape).index_add_(1, homes, matrix)
        if how.kv_reduction == "mean":
            total /= torch.bincount(homes)
        record = ImportRecord(
            file=str(self.path), score_sign=how.score_sign, kv_reduction=how.kv_reduction
        )
        total *= _SIGNS[how.score_sign]
        return EdgeScores(total, layout, "imported", Provenance(imported=record))

    def circuit(self, how: ImportOptions = AS_IN_FILE) -> Circuit:
        """The edges that are `in_graph`; those that the file does not mention are not.

        Args:
            how: as for `scores`; with `kv_heads`, all copies of an edge must agree.

        Returns:
            The circuit.

        Raises:
            CircuitsError: where copies of an edge do not agree.
        """
        in_graph = self._edges("in_graph")
        require_agreement(self.path, self.wide, self.record, in_graph.bool())
        layout = self._narrow(how)
        homes = reader_homes(self.wide, layout)
        count = torch.zeros(layout.shape).index_add_(1, homes, in_graph)
        copies = torch.bincount(homes)
        if (split := (count > 0) & (count < copies)).any():
            row, column = split.nonzero()[0].tolist()
            raise CircuitsError(
                f"{self.path}: {int(count[row, column])} of the {int(copies[column])} query heads "
                f"that share {layout.edge_name(row, column)} keep it; read the file ungrouped, or "
                "take its scores and select again"
            )
        return Circuit(
            layout, count > 0, None, Provenance(imported=ImportRecord(file=str(self.path)))
        )

    def node_scores(self) -> dict[str, float]:
        """Scores of nodes, in the file's sign; nodes without one are left out."""
        if "edges" not in self.record:
            values = rows(self.record.get("nodes_scores"))
            scores = {} if values is None else dict(zip(self.wide.sources, values, strict=True))
        else:
            nodes = self.record["nodes"]
            scores = {
                name: node["score"]
                for name, node in (nodes.items() if isinstance(nodes, dict) else ())
                if isinstance(node, dict) and node.get("score") is not None and name != "logits"
            }
        numbers = {name: self._number(name, value) for name, value in scores.items()}
        return {name: number for name, number in numbers.items() if not math.isnan(number)}

    def scores_of_nodes(self, how: ImportOptions = AS_IN_FILE) -> NodeScores:
        """Node scores in this package's sign: every source needs one, but for `input`.

        Args:
            how: as for `scores`.

        Returns:
            The scores.

        Raises:
            CircuitsError: where a source has none.
        """
        scores, layout = self.node_scores(), self._narrow(how)
        values = torch.zeros(len(layout.sources))
        for row, name in enumerate(layout.sources):
            if name not in scores and row not in layout.roots:
                raise CircuitsError(
                    f"{self.path}: node {name} has no score, where {len(scores)} others have one"
                )
            values[row] = scores.get(name, 0.0)
        provenance = Provenance(
            imported=ImportRecord(file=str(self.path), score_sign=how.score_sign)
        )
        values *= _SIGNS[how.score_sign]
        return NodeScores(values, layout, (1,) * len(values), "imported", provenance)

    def _narrow(self, how: ImportOptions) -> Layout:
        if how.kv_heads is None:
            return self.wide
        try:
            return replace(self.wide, n_kv_heads=how.kv_heads)
        except CircuitsError as error:
            raise CircuitsError(f"{self.path}: kv_heads {how.kv_heads}: {error}") from error

    def _edges(self, key: Literal["score", "in_graph"]) -> Float[Tensor, "source reader"]:
        """One property of every edge, in float32."""
        matrix = self._by_name(key) if "edges" in self.record else self._by_place(key)
        if not torch.isfinite(matrix).all():
            row, column = (~torch.isfinite(matrix)).nonzero()[0].tolist()
            name = self.wide.edge_name(row, column)
            raise CircuitsError(f"{self.path}, edge {name}: its score is not finite")
        return matrix

    def _by_place(self, key: Literal["score", "in_graph"]) -> Float[Tensor, "source reader"]:
        name = {"score": "edges_scores", "in_graph": "edges_in_graph"}[key]
        matrix = self.record.get(name)
        shape = tuple(matrix.shape) if isinstance(matrix, Tensor) else None
        if not isinstance(matrix, Tensor) or shape != self.wide.shape:
            raise CircuitsError(
                f"{self.path}: {name} should be {self.wide.shape}, sources x readers; it is {shape}"
            )
        if key == "in_graph" and bool((off := (matrix != 0) & (matrix != 1)).any()):
            value = matrix[off][0].item()
            raise CircuitsError(f"{self.path}: {name} holds {value}, which is not true or false")
        return torch.where(self.wide.mask, matrix.float(), 0.0)

    def _by_name(self, key: Literal["score", "in_graph"]) -> Float[Tensor, "source reader"]:
        edges = self._named_edges()
        matrix = torch.zeros(self.wide.shape)
        for name, edge in edges.items():
            try:
                index = self.wide.edge(name)
            except CircuitsError as error:
                raise CircuitsError(f"{self.path}: {error}") from error
            value = edge.get(key) if isinstance(edge, dict) else None
            if value is None or (key == "in_graph" and value not in (True, False)):
                raise CircuitsError(
                    f"{self.path}, edge {name}: {key} is missing or malformed ({edge!r})"
                )
            matrix[index] = self._number(f"edge {name}", value)
        require_nodes(self.path, self.wide, self.record)
        if key == "score" and len(edges) < self.wide.n_edges:
            indices = self.wide.mask.nonzero().tolist()
            names = (self.wide.edge_name(row, column) for row, column in indices)
            missing = next(name for name in names if name not in edges)
            raise CircuitsError(f"{self.path}: edge {missing} has no score")
        return matrix

    def _named_edges(self) -> dict[str, object]:
        edges = self.record["edges"]
        if not isinstance(edges, dict):
            raise CircuitsError(f"{self.path}: edges should be names and their properties")
        return edges

    def _number(self, what: str, value: object) -> float:
        try:
            return float(value if isinstance(value, SupportsFloat) else str(value))
        except (TypeError, ValueError) as error:
            raise CircuitsError(f"{self.path}, {what}: {value!r} is no number") from error


def write_graph(
    path: str | Path,
    *,
    d_model: int,
    scores: EdgeScores | None = None,
    circuit: Circuit | None = None,
) -> Path:
    """Write scores, a circuit or both as EAP-IG and MIB read them; .json or .pt by the suffix.

    d_model: the model's width, which their `cfg` must hold.
    Scores alone leave every edge out of the graph, as EAP-IG does before a circuit is chosen. A
    circuit alone scores every edge 0, since EAP-IG reads no file without scores; here such a file
    is read as one that has none.
    """
    path = Path(path)
    layouts = [part.layout for part in (scores, circuit) if part is not None]
    if not layouts or any(other != layouts[0] for other in layouts):
        raise CircuitsError(f"{path}: give scores, a circuit, or both of one model")
    wide = ungrouped(layouts[0])
    if wide != Layout(wide.n_layers, wide.n_heads, wide.n_heads, wide.parallel):
        raise CircuitsError(f"{path}: EAP-IG's format has no place for this graph: {layouts[0]}")
    values, in_graph = torch.zeros(wide.shape), torch.zeros(wide.shape, dtype=torch.bool)
    if scores is not None:
        values = ungrouped_scores(scores).matrix
    if circuit is not None:
        in_graph = ungrouped_circuit(circuit).mask
    nodes = set(Circuit(wide, in_graph).nodes)
    cfg = {
        "n_layers": wide.n_layers,
        "n_heads": wide.n_heads,
        "parallel_attn_mlp": wide.parallel,
        "d_model": d_model,
    }
    if path.suffix == ".json":
        edges: dict[str, dict[str, object]] = {}
        for row, column in wide.mask.nonzero().tolist():
            edges[wide.edge_name(row, column)] = {
                "score": float(values[row, column]),
                "in_graph": bool(in_graph[row, column]),
            }
        # EAP-IG counts the logits in always.
        inside = {name: {"in_graph": name in nodes or name == "logits"} for name in wide.nodes}
        write_json(path, {"cfg": cfg, "nodes": inside, "edges": edges})
    elif path.suffix == ".pt":
        tensors: dict[str, object] = {
            "cfg": cfg,
            "src_nodes": list(wide.sources),
            "dst_nodes": list(wide.readers),
            "edges_scores": values,
            "edges_in_graph": in_graph,
            "nodes_in_graph": torch.tensor([name in nodes for name in wide.sources]),
        }
        with atomic_path(path) as temporary:
            torch.save(tensors, temporary)
    else:
        raise CircuitsError(f"{path}: write a .json or a .pt")
    return path


def _read(path: Path) -> dict[str, object]:
    """The file's record, with what its form must hold."""
    if path.suffix == ".pt":
        try:
            record = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # what reading broken bytes as a pickle raises has no type
            reason = " ".join(str(error).split()).split(". ")[0]
            raise CircuitsError(f"{path}: not a graph file of EAP-IG ({reason})") from error
        needed = ["cfg", "edges_in_graph"]
    else:
        record = read_json(path)
        needed = ["cfg", "nodes", "edges"]
    missing = [key for key in needed if not isinstance(record, dict) or key not in record]
    if missing:
        raise CircuitsError(f"{path}: not a graph file of EAP-IG; it has no {missing[0]!r}")
    content: dict[str, object] = record
    return content


def _whole(value: object) -> int | None:
    if not isinstance(value, SupportsIndex) or isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:  # a tensor of fractions has the method too
        return None


def _layout(path: Path, record: dict[str, object]) -> Layout:
    """The ungrouped graph that the file's `cfg` describes."""
    cfg = sizes(record)
    layers, heads = (_whole(cfg.get(key)) for key in ("n_layers", "n_heads"))
    if layers is None or heads is None:
        raise CircuitsError(
            f"{path}: cfg needs n_layers and n_heads, whole numbers; it is {record['cfg']!r}"
        )
    parallel, width = cfg.get("parallel_attn_mlp", False), cfg.get("d_model")
    if parallel not in (True, False, None):
        raise CircuitsError(f"{path}: cfg's parallel_attn_mlp is {parallel!r}, not true or false")
    if width is not None and (not isinstance(width, int) or isinstance(width, bool) or width < 1):
        raise CircuitsError(f"{path}: cfg's d_model is {width!r}, not a whole number above 0")
    try:
        return Layout(layers, heads, heads, bool(parallel))
    except CircuitsError as error:
        raise CircuitsError(f"{path}: {error}") from error
