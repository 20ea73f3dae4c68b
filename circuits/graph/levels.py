"""What circuits of edges, of nodes and of neurons have in common: scores, an order, a size.

At each level a circuit is a choice among places: edges in the score matrix, or units of sources.
"""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.circuit import Circuit
from circuits.graph.node_circuit import NodeCircuit, NodeCircuitFile
from circuits.graph.node_scores import FILES, NodeScores
from circuits.graph.node_selection import node_order, select_nodes
from circuits.graph.orders import edge_order
from circuits.graph.scores import EdgeScores
from circuits.graph.selection import select
from circuits.options.choices import Level, Ranking, Strategy
from circuits.runtime.files import read_json

DEFAULT_STRATEGIES: dict[Level, Strategy] = {
    "edge": "widest-path",
    "node": "top-n",
    "neuron": "top-n",
}

AnyScores = EdgeScores | NodeScores
AnyCircuit = Circuit | NodeCircuit


def load_scores(path: str | Path) -> AnyScores:
    """Read scores of edges, nodes or neurons.

    Args:
        path: a `.safetensors` file, or a folder that holds one of them.

    Returns:
        The scores, of the level that they were saved at.

    Raises:
        CircuitsError: where the file is missing or broken, or the folder holds several.
    """
    path = Path(path)
    of_nodes = [f"{name}.safetensors" for name in FILES]
    score_files = [name for name in ("scores.safetensors", *of_nodes) if (path / name).is_file()]
    if len(score_files) > 1:
        raise CircuitsError(
            f"{path}: it holds several kinds of scores; name {' or '.join(score_files)}"
        )
    if (score_files[0] if score_files else path.name) in of_nodes:
        return NodeScores.load(path)
    return EdgeScores.load(path)


def load_circuit(path: str | Path) -> AnyCircuit:
    """Read a circuit of edges, nodes or neurons."""
    record = read_json(path)
    nodes = isinstance(record, dict) and record.get("kind") == NodeCircuitFile.KIND
    return NodeCircuit.load(path) if nodes else Circuit.load(path)


def empty_like(scores: AnyScores) -> AnyCircuit:
    """The circuit of nothing, from which `with_only` makes others."""
    if isinstance(scores, NodeScores):
        return NodeCircuit.inputs_only(scores.units)
    return Circuit.empty(scores.layout)


def size_of_fraction(scores: AnyScores, fraction: float) -> int:
    """How many edges, nodes or neurons a share of all is, at least one."""
    if not 0 < fraction <= 1:
        raise CircuitsError(f"fraction {fraction}: it must be above 0 and at most 1")
    return max(1, round(fraction * len(empty_like(scores).candidates)))


def order_of(
    scores: AnyScores,
    strategy: Strategy | None = None,
    ranking: Ranking = "absolute",
    *,
    positive_ratio: float | None = None,
) -> Int[Tensor, " choice"]:
    """All places, best first, as `select` and `select_nodes` take them.

    strategy: None takes that of DEFAULT_STRATEGIES. Nodes and neurons have no other.
    """
    if isinstance(scores, NodeScores):
        require_top_n(scores.units.level, strategy)
        return node_order(scores, ranking, positive_ratio=positive_ratio)
    strategy = strategy or DEFAULT_STRATEGIES["edge"]
    return edge_order(scores, strategy, ranking, positive_ratio=positive_ratio, join=True)


def select_size(
    scores: AnyScores,
    size: int,
    *,
    strategy: Strategy | None = None,
    ranking: Ranking = "absolute",
    positive_ratio: float | None = None,
    prune: bool = True,
) -> AnyCircuit:
    """The best edges (`select`), or nodes or neurons (`select_nodes`, never pruned), so many."""
    if isinstance(scores, NodeScores):
        require_top_n(scores.units.level, strategy)
        return select_nodes(scores, size, ranking=ranking, positive_ratio=positive_ratio)
    strategy = strategy or DEFAULT_STRATEGIES["edge"]
    return select(
        scores,
        size=size,
        strategy=strategy,
        ranking=ranking,
        positive_ratio=positive_ratio,
        prune=prune,
    )


def require_top_n(level: Level, strategy: Strategy | None) -> None:
    """Refuse a strategy that orders edges, where nodes or neurons are chosen."""
    if level != "edge" and strategy not in (None, "top-n"):
        raise CircuitsError(
            f'strategy {strategy!r} orders edges; {level}s are taken by strategy "top-n"'
        )
