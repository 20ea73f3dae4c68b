"""`search.json`: what a search found, and how it came to it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import PlainSerializer

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Layout, Provenance
from circuits.options.search import AcdcConfig
from circuits.runtime.files import read_json
from circuits.runtime.result_file import Record, ResultFile


def _plain(config: AcdcConfig) -> dict[str, object]:
    """The settings for JSON, which has no number for an infinite tau."""
    return {**asdict(config), "tau": config.tau if math.isfinite(config.tau) else str(config.tau)}


@dataclass(frozen=True)
class Step:
    """One trial: an edge (or node) by name, the metric before and after its removal, the verdict.

    before, after: means over the pairs. kept: whether it was put back.
    """

    name: str
    before: float
    after: float
    kept: bool


class RunCost(Record):
    """What the trials so far ran.

    runs: circuits run on a batch, wrong guesses included. layers_run: layers run for them.
    """

    runs: int = 0
    layers_run: int = 0


class Cost(RunCost):
    """What a search ran.

    decisions: edges or nodes tried. untried: those dropped because nothing read their reader.
    naive_layers: layers of one whole run an edge (or node) and batch.
    """

    decisions: int
    untried: int
    naive_layers: int

    @property
    def saving(self) -> float:
        """Layers of whole runs for every edge over the layers that were run."""
        return self.naive_layers / max(1, self.layers_run)


class Search(ResultFile):
    """A circuit and the trials it comes from.

    edges: of the circuit, pruned to what joins input and logits where `config.prunes`.
    history: every trial, in order.
    metric_model, metric_empty, metric_circuit: means over the pairs of the whole model, of no edge
        and of the circuit.
    config: every setting. provenance: metric, data, model and versions.
    """

    KIND: ClassVar[str] = "search"

    layout: Layout
    edges: tuple[str, ...]
    history: tuple[Step, ...]
    metric_model: float
    metric_empty: float
    metric_circuit: float
    cost: Cost
    config: Annotated[AcdcConfig, PlainSerializer(_plain, when_used="json")]
    provenance: Provenance

    @cached_property
    def circuit(self) -> Circuit:
        """The circuit, which says of itself how it was searched."""
        mask = Circuit.of(self.layout, self.edges).mask
        origin = self.provenance.extended(settings=self.config.settings)
        return Circuit(self.layout, mask, None, origin)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Heads and MLPs with an edge out of them, in the model's order."""
        kept = self.circuit.mask.any(dim=1).tolist()
        return tuple(
            node.name
            for node, stays in zip(self.layout.source_nodes, kept, strict=True)
            if stays and node.kind in ("head", "mlp")
        )


class StoppedSearch(ResultFile):
    """The trials of a search that may be killed, in the file where its result will be.

    config, provenance: whatever decides the outcome.
    """

    KIND: ClassVar[str] = "stopped-search"

    history: tuple[Step, ...]
    cost: RunCost
    config: Annotated[AcdcConfig, PlainSerializer(_plain, when_used="json")]
    provenance: Provenance


class Journal:
    """How far a search came, kept in a file that the same search continues from.

    config, provenance: of the search; a file of another one is refused.
    """

    def __init__(self, path: str | Path | None, config: AcdcConfig, provenance: Provenance) -> None:
        self.path = None if path is None else Path(path)
        self.config, self.provenance = config, provenance

    def read(self) -> tuple[tuple[Step, ...], RunCost]:
        """Trials so far and what they cost; none where there is no file."""
        if self.path is None or not self.path.exists():
            return (), RunCost()
        content = read_json(self.path)
        finished = isinstance(content, dict) and content.get("kind") == Search.KIND
        search = Search.load(self.path) if finished else StoppedSearch.load(self.path)
        if other := self._differences(search):
            raise CircuitsError(
                f"{self.path}: belongs to a search with other {', '.join(other)}; "
                "write to another place, or delete it"
            )
        cost = RunCost(runs=search.cost.runs, layers_run=search.cost.layers_run)
        return search.history, cost

    def write(self, history: tuple[Step, ...], cost: RunCost) -> None:
        """Replace the file by one that says how far the search came."""
        if self.path is not None:
            StoppedSearch(
                history=history, cost=cost, config=self.config, provenance=self.provenance
            ).save(self.path)

    def _differences(self, search: Search | StoppedSearch) -> list[str]:
        """What decides the outcome and is not the same; performance decides nothing."""
        before = search.provenance.extended(performance=self.provenance.performance)
        recorded, current = dict(before), dict(self.provenance)
        other = sorted(name for name in current if recorded[name] != current[name])
        return (["settings"] if search.config != self.config else []) + other
