"""Circuits and scores as networkx graphs, and as files of graph tools: GraphML, GEXF, GML, DOT and
node-link JSON.

A graph is a `MultiDiGraph` of the model's nodes, so that an edge into a head's query, key or value
is one of three between the same two nodes. Its key, unique in the graph, is `a0.h3->a1.h2<q>`;
under grouped-query attention a k or v reader is an edge into each of its query heads. Attributes
that do not apply, and scores that are not finite, are left out, as few formats can hold None.

- nodes: kind, layer, head, `encoder` and `cross` where true, score (of nodes and neurons), x and y
  for drawing: input at the bottom, logits on top, an encoder left of its decoder;
- edges: edge (its name here, with `a1.kv1<k>` for a shared reader), port, score;
- neurons: a node each (`m3[17]`: kind "neuron", unit, score), with an edge of kind "part" to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from jaxtyping import Float
from torch import Tensor

from circuits.graph.layout import Layout
from circuits.graph.node import Node
from circuits.options.choices import NetworkForm
from circuits.options.declared import require_known
from circuits.runtime.files import atomic_path

if TYPE_CHECKING:
    import networkx as nx

_STEP_X, _STEP_Y = 60.0, 100.0


def network(
    layout: Layout, names: Collection[str], scores: Mapping[str, float] | None = None
) -> nx.MultiDiGraph:
    """The named nodes of a model, in its order, without edges.

    scores: of nodes, where there are any.
    """
    import networkx as nx

    graph, coordinates = nx.MultiDiGraph(), positions(layout)
    for node in (*layout.source_nodes, Node("logits", "logits", layout.n_layers)):
        if node.name in names:
            x, y = coordinates[node.name]
            graph.add_node(
                node.name,
                kind=node.kind,
                **_given(layer=node.layer, head=node.head),
                **_given(encoder=node.encoder or None, cross=node.cross or None),
                **_score((scores or {}).get(node.name)),
                x=x,
                y=y,
            )
    return graph


def add_edges(
    graph: nx.MultiDiGraph,
    layout: Layout,
    edges: Iterable[Sequence[int]],
    ends: Callable[[int], Iterable[int]],
    scores: Float[Tensor, "source reader"] | None,
) -> None:
    """Add edges by row and column; `ends` gives the rows of the sources that one into a column
    reaches (none for the logits).
    """
    for row, column in edges:
        reader = layout.reader_nodes[column]
        port = f"<{reader.port}>" if reader.port else ""
        source = layout.sources[row]
        for target in [layout.sources[end] for end in ends(column)] or ["logits"]:
            graph.add_edge(
                source,
                target,
                key=f"{source}->{target}{port}",
                edge=layout.edge_name(row, column),
                **_given(port=reader.port),
                **_score(None if scores is None else float(scores[row, column])),
            )


def add_units(graph: nx.MultiDiGraph, units: Iterable[tuple[str, str, int, float | None]]) -> None:
    """Add neurons by name, node, number within it, and score; each near its node."""
    for name, node, unit, score in units:
        home = graph.nodes[node]
        turn = unit * math.pi * (3 - math.sqrt(5))  # a sunflower: any number lies apart
        away = 3 + math.sqrt(unit)
        graph.add_node(
            name,
            kind="neuron",
            **_given(layer=home.get("layer"), head=home.get("head")),
            unit=unit,
            **_score(score),
            x=home["x"] + away * math.cos(turn),
            y=home["y"] + away * math.sin(turn),
        )
        graph.add_edge(name, node, key=f"{name}->{node}", kind="part")


def positions(layout: Layout) -> dict[str, tuple[float, float]]:
    """Where to draw each node: a row a layer's attention or MLP, upwards from the input."""
    coordinates: dict[str, tuple[float, float]] = {}
    width = (layout.n_heads + 1) * _STEP_X
    rows: dict[tuple[bool, int | None, str, bool], int] = {}
    for node in (*layout.source_nodes, Node("logits", "logits")):
        what = "head" if node.kind == "head" else "mlp" if node.kind == "mlp" else "end"
        row = (node.encoder, node.layer, node.kind if what == "end" else what, node.cross)
        if node.kind == "bias":  # beside the input
            row = (node.encoder, None, "input", False)
        stream = [other for other in rows if other[0] == node.encoder]
        rows.setdefault(row, len(stream))
        offset = -width if layout.n_encoder_layers and node.encoder else 0.0
        across = 0.0 if node.head is None else node.head - (layout.n_heads - 1) / 2
        x = offset + (1.0 if node.kind == "bias" else across) * _STEP_X
        coordinates[node.name] = (x, rows[row] * _STEP_Y)
    return coordinates


def _given(**attributes: object) -> dict[str, object]:
    return {name: value for name, value in attributes.items() if value is not None}


def _score(value: float | None) -> dict[str, float]:
    return {} if value is None or not math.isfinite(value) else {"score": float(value)}


def write_network(graph: nx.MultiDiGraph, path: str | Path, form: NetworkForm) -> Path:
    """Write a graph for other tools.

    form: graphml, gexf, gml, dot or json (node-link), one of `FORMS`. networkx reads them back with
        the same nodes, edges, keys and attributes: `read_graphml(path, force_multigraph=True)`,
        `read_gml(path)`, `node_link_graph(json.load(file), edges="edges")`; `read_gexf(path)` has
        the key as `id` too, and is no multigraph where no two edges are parallel.
    """
    require_known("form", form, get_args(NetworkForm))
    path = Path(path)
    with atomic_path(path) as temporary:
        FORMS[form](graph, temporary)
    return path


def _write_graphml(graph: nx.MultiDiGraph, path: Path) -> None:
    import networkx as nx

    nx.write_graphml_xml(graph, path)  # edge ids are the keys


def _write_gexf(graph: nx.MultiDiGraph, path: Path) -> None:
    import networkx as nx

    drawn = nx.MultiDiGraph()
    for name, values in graph.nodes.items():
        position = {"x": values["x"], "y": values["y"], "z": 0.0}
        drawn.add_node(name, **values, viz={"position": position})
    for source, target, key, values in graph.edges(keys=True, data=True):
        drawn.add_edge(source, target, key=key, **values, id=key)
    nx.write_gexf(drawn, path)


def _write_gml(graph: nx.MultiDiGraph, path: Path) -> None:
    import networkx as nx

    nx.write_gml(graph, path)


def _write_json(graph: nx.MultiDiGraph, path: Path) -> None:
    import networkx as nx

    data = nx.node_link_data(graph, edges="edges")
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_dot(graph: nx.MultiDiGraph, path: Path) -> None:
    """Graphviz; `neato -n` draws it at its positions. An edge's `key` is what networkx calls so."""
    lines = ["digraph {"]
    for name, values in graph.nodes.items():
        position = f"{values['x']:g},{values['y']:g}!"
        lines.append(f"  {_quoted(name)} [{_listed({**values, 'pos': position})}];")
    for source, target, key, values in graph.edges(keys=True, data=True):
        ends = f"{_quoted(source)} -> {_quoted(target)}"
        lines.append(f"  {ends} [{_listed({'key': key, **values})}];")
    path.write_text("\n".join([*lines, "}", ""]), encoding="utf-8")


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_quoted(value)}" for name, value in values.items())


def _quoted(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


FORMS: dict[NetworkForm, Callable[[nx.MultiDiGraph, Path], None]] = {
    "graphml": _write_graphml,
    "gexf": _write_gexf,
    "gml": _write_gml,
    "dot": _write_dot,
    "json": _write_json,
}
"""What writes each format."""
