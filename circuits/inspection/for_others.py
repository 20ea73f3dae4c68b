"""Files that were written here for other programs, told by what stands in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from circuits.errors import CircuitsError
from circuits.graph.interchange import GraphFile
from circuits.inspection.inspection import Inspection
from circuits.runtime.files import read_json

_HEAD = 2**20  # characters that are looked at


def for_others(path: Path) -> Inspection | None:
    """What a file is; None where none of these."""
    look = _BY_ENDING.get(path.suffix)
    return None if look is None else look(path)


def _json(path: Path) -> Inspection | None:
    content = read_json(path)
    if not isinstance(content, dict):
        return None
    if {"cfg", "nodes", "edges"} <= content.keys():
        return _graph(path, len(content["edges"]))
    if {"multigraph", "nodes", "edges"} <= content.keys():
        return _network(path)
    if {"method_name", "results"} <= content.keys():
        return Inspection(path, "an evaluation as MIB's leaderboard writes it")
    return None


def _tensors(path: Path) -> Inspection | None:
    try:
        graph = GraphFile.read(path)
    except CircuitsError:
        return None
    return _graph(path, graph.wide.n_edges)


def _graph(path: Path, edges: int) -> Inspection:
    return Inspection(path, "a graph file as EAP-IG and MIB read it", facts={"edges": str(edges)})


def _network(path: Path) -> Inspection | None:
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_HEAD)
    if not ("input" in text and "logits" in text):
        return None
    return Inspection(path, "a circuit or scores as a graph, for graph tools")


def _constants(path: Path) -> Inspection | None:
    try:
        with safe_open(str(path), framework="pt") as file:
            ablation = (file.metadata() or {}).get("ablation")
    except SafetensorError:
        return None
    return ablation and Inspection(
        path, "constants that stand in for what is left out", facts={"ablation": ablation}
    )


def _table(path: Path) -> Inspection | None:
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.readline()
    if not head.startswith("step,") or "validation_" not in head:
        return None
    return Inspection(path, "the log of a fine-tuning as a table")


def _drawing(path: Path) -> Inspection | None:
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_HEAD)
    return Inspection(path, "a circuit as a drawing") if '<g class="edge">' in text else None


_BY_ENDING: dict[str, Callable[[Path], Inspection | None]] = {
    ".json": _json,
    ".pt": _tensors,
    ".graphml": _network,
    ".gexf": _network,
    ".gml": _network,
    ".dot": _network,
    ".safetensors": _constants,
    ".csv": _table,
    ".svg": _drawing,
}
