"""What a graph file of EAP-IG or MIB says besides its edges: each key is read, harmless or refused.

A key that is passed over in silence may change what the file means, so the reader knows all of
them: those that EAP-IG's `to_json` and `to_pt` write, and no others. What it does not know is
refused by name.

- `cfg`: n_layers, n_heads, parallel_attn_mlp and d_model draw the graph. Anything else is harmless,
  as EAP-IG takes a whole model's configuration there, but `attn_only`, a graph without MLPs.
- **Neurons.** Of each source EAP-IG can keep and score single dimensions of its *output*, d_model.
  This package's neurons are the dimensions of a head's z and an MLP's hidden neurons, which
  are others, so neither masks (`neurons`, `neurons_in_graph`) nor scores (`neurons_scores`) are
  converted. A mask that keeps all of a node, or none of a node that no kept edge leaves, says
  nothing more than the edges do and is read over; so are scores that are all NaN (not scored) or 0.
- **Nodes.** EAP-IG's circuit is its edges: `prune` makes the nodes' `in_graph` again from them, a
  node being in where a kept edge enters and another leaves it. A file in which such a node is out
  is of two minds and is refused; one with no node in at all has set none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.layout import Layout

_JSON = ("cfg", "nodes", "edges", "neurons")
_NODE = ("in_graph", "score", "neurons", "neurons_scores")
_EDGE = ("score", "in_graph")
_PT = (
    "cfg",
    "src_nodes",
    "dst_nodes",
    "edges_scores",
    "edges_in_graph",
    "nodes_in_graph",
    "nodes_scores",
    "neurons",
    "neurons_in_graph",
    "neurons_scores",
)

NodeValues = Mapping[str, object]


def sizes(record: Mapping[str, object]) -> Mapping[str, object]:
    """A file's `cfg`; empty where it is none."""
    cfg = record["cfg"]
    return cfg if isinstance(cfg, dict) else {}


def rows(value: object) -> list[object] | None:
    """The rows of a matrix or a list; None where it is neither."""
    return list(value) if isinstance(value, Tensor | list) else None


def account(path: Path, wide: Layout, record: Mapping[str, object]) -> None:
    """Refuse, by name, what the reader does not take from a file and what may change its meaning.

    wide: the ungrouped graph of the file's `cfg`.
    """
    if sizes(record).get("attn_only"):
        raise CircuitsError(f"{path}: cfg has attn_only, a graph without MLPs; it is not supported")
    if "edges" in record and "edges_in_graph" not in record:
        _require_known(path, "", record, _JSON)
        neurons, scores = _json_nodes(path, record)
    else:
        _require_known(path, "", record, _PT)
        neurons, scores = _pt_nodes(path, wide, record)
    width = sizes(record).get("d_model")
    for name, value in neurons.items():
        _flags(path, name, "neurons", value, wide, width)
    for name, value in scores.items():
        numbers = _tensor(path, name, "neurons_scores", value)
        if bool((numbers.isfinite() & (numbers != 0)).any()) or bool(numbers.isinf().any()):
            raise CircuitsError(
                f"{path}, node {name}: neurons_scores are scores of its output's dimensions, which "
                "this package's neurons (of z and of an MLP's hidden layer) are not; remove them "
                "to read the edges alone"
            )


def require_agreement(
    path: Path, wide: Layout, record: Mapping[str, object], in_graph: Bool[Tensor, "source reader"]
) -> None:
    """Refuse a circuit whose nodes or neurons say otherwise than its edges.

    in_graph: the edges that are `in_graph`.
    """
    leaves, entered = in_graph.any(dim=1), torch.zeros(wide.shape[0], dtype=torch.bool)
    for column in in_graph.any(dim=0).nonzero().flatten().tolist():
        entered[list(wide.feeds[column])] = True
    entered[list(wide.roots)] = True
    if "nodes_in_graph" in record:
        neurons, _ = _pt_nodes(path, wide, record)
        node_rows = rows(record["nodes_in_graph"])
        inside = (
            {} if node_rows is None else dict(zip(wide.sources, map(bool, node_rows), strict=True))
        )
    else:
        nodes = record.get("nodes")
        named = nodes.items() if isinstance(nodes, dict) else ()
        inside = {name: _in_graph(node) for name, node in named if name != "logits"}
        neurons, _ = _json_nodes(path, record) if "edges" in record else ({}, {})
    width = sizes(record).get("d_model")
    for row, name in enumerate(wide.sources):
        if leaves[row] and entered[row] and not inside.get(name, True) and any(inside.values()):
            raise CircuitsError(
                f"{path}: node {name} is not in the graph, yet edges into and out of it are; set "
                "its in_graph to true, or its edges' to false"
            )
        if name in neurons and leaves[row]:
            flags = _flags(path, name, "neurons", neurons[name], wide, width)
            if not flags.all():
                raise CircuitsError(
                    f"{path}: node {name} keeps none of its neurons, yet edges out of it are in "
                    "the graph; set their in_graph to false"
                )


def require_nodes(path: Path, wide: Layout, record: Mapping[str, object]) -> None:
    """Refuse names of nodes that the graph does not have."""
    named = [part for key in ("nodes", "neurons") if isinstance(part := record.get(key), dict)]
    for name in (name for part in named for name in part):
        if name not in wide.nodes:
            raise CircuitsError(f"{path}: no node {name!r} in this model ({wide.summary})")


def _in_graph(node: object) -> bool:
    return bool(node.get("in_graph", True) if isinstance(node, dict) else node)


def _json_nodes(path: Path, record: Mapping[str, object]) -> tuple[NodeValues, NodeValues]:
    """Neuron masks and neuron scores by node."""
    nodes, edges = record["nodes"], record["edges"]
    if not isinstance(nodes, dict):
        raise CircuitsError(f"{path}: nodes should be names and their properties")
    neurons = record.get("neurons") or {}
    if not isinstance(neurons, dict):
        raise CircuitsError(f"{path}: neurons should be names of nodes and their masks")
    neurons = dict(neurons)
    scores: dict[str, object] = {}
    for name, node in nodes.items():
        if isinstance(node, dict):
            _require_known(path, f", node {name}", node, _NODE)
            if node.get("in_graph", True) not in (True, False):
                raise CircuitsError(f"{path}, node {name}: in_graph is malformed ({node!r})")
            if node.get("neurons") is not None:
                neurons[name] = node["neurons"]
            if node.get("neurons_scores") is not None:
                scores[name] = node["neurons_scores"]
        elif node not in (True, False):
            raise CircuitsError(f"{path}, node {name}: {node!r} is not true or false")
    if isinstance(edges, dict):
        for name, edge in edges.items():
            if isinstance(edge, dict):
                _require_known(path, f", edge {name}", edge, _EDGE)
    return neurons, scores


def _pt_nodes(
    path: Path, wide: Layout, record: Mapping[str, object]
) -> tuple[NodeValues, NodeValues]:
    """Neuron masks and neuron scores by node."""
    _require_same_names(path, "src_nodes", record.get("src_nodes"), wide.sources)
    _require_same_names(path, "dst_nodes", record.get("dst_nodes"), wide.readers)
    by_key: dict[str, dict[str, object]] = {}
    for key in ("nodes_in_graph", "nodes_scores", "neurons", "neurons_in_graph", "neurons_scores"):
        value = record.get(key)
        if value is None:
            continue
        node_rows = rows(value)
        if node_rows is None or len(node_rows) != len(wide.sources):
            raise CircuitsError(
                f"{path}: {key} should have one row for each of {len(wide.sources)} sources; it "
                f"has {None if node_rows is None else len(node_rows)}"
            )
        by_key[key] = dict(zip(wide.sources, node_rows, strict=True))
    masks = {**by_key.get("neurons", {}), **by_key.get("neurons_in_graph", {})}
    return masks, by_key.get("neurons_scores", {})


def _flags(
    path: Path, name: str, key: str, value: object, wide: Layout, width: object
) -> Bool[Tensor, " dimension"]:
    """A node's mask over the dimensions of its output: all of them or none, else refused."""
    flags = _tensor(path, name, key, value)
    heads = wide.n_heads
    if flags.ndim == 2 and len(flags) == heads and ".h" in name:
        # EAP-IG's `to_json` writes the masks of a layer's heads beside each of them.
        flags = flags[int(name.rpartition(".h")[2])]
    if flags.ndim != 1 or not len(flags) or (width is not None and len(flags) != width):
        raise CircuitsError(
            f"{path}, node {name}: {key} should be {width or 'd_model'} flags, one for each "
            f"dimension of its output; they are {tuple(flags.shape)}"
        )
    if not bool(((flags == 0) | (flags == 1)).all()):
        raise CircuitsError(f"{path}, node {name}: {key} should be true or false each")
    n_kept = int(flags.sum())
    if 0 < n_kept < len(flags):
        raise CircuitsError(
            f"{path}, node {name}: {key} keep {n_kept} of {len(flags)} dimensions of its output, "
            "which this package's neurons (of z and of an MLP's hidden layer) are not; a circuit "
            "of parts of nodes is not converted: keep whole nodes, or take the scores and select"
        )
    return flags.bool()


def _tensor(path: Path, name: str, key: str, value: object) -> Tensor:
    make: Callable[[object], Tensor] = torch.as_tensor
    try:
        return make(value).float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise CircuitsError(f"{path}, node {name}: {key} are no list of values") from error


def _require_known(
    path: Path, where: str, values: Mapping[str, object], expected: Collection[str]
) -> None:
    if unknown := sorted(str(key) for key in values if key not in expected):
        raise CircuitsError(
            f"{path}{where}: the key {unknown[0]!r} is none of EAP-IG's ({', '.join(expected)}); "
            "it may change what the file means, so remove it if it does not"
        )


def _require_same_names(path: Path, key: str, value: object, expected: Collection[str]) -> None:
    """Refuse names of rows or columns in another order than the graph's: matrices go by place."""
    names = value if isinstance(value, list | tuple) else [value]
    if value is not None and list(names) != list(expected):
        pairs = zip([*names, None], [*expected, None], strict=False)
        theirs, ours = next(pair for pair in pairs if pair[0] != pair[1])
        raise CircuitsError(
            f"{path}: {key} has {theirs!r} where {ours!r} is expected; the matrices go by place"
        )
