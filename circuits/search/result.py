"""What a search found, and how it came to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from circuits.errors import CircuitsError, error_context
from circuits.graph import Circuit, Layout, Provenance
from circuits.runtime.files import read_json, require_known, write_json

_METRICS = ("metric_model", "metric_empty", "metric_circuit")
_RECORD = ("layout", "edges", "history", *_METRICS, "cost", "details")


@dataclass(frozen=True)
class Step:
    """One trial: an edge (or node) by name, the metric before and after its removal, the verdict.

    before, after: means over the pairs. kept: whether it was put back.
    """

    name: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True)
class Cost:
    """What a search ran.

    decisions: edges or nodes tried. untried: those dropped because nothing read their reader.
    runs: circuits run on a batch, wrong guesses included. layers_run: layers run for them.
    naive_layers: layers of one whole run an edge (or node) and batch.
    """

    decisions: int
    untried: int
    runs: int
    layers_run: int
    naive_layers: int

    @property
    def saving(self) -> float:
        """Layers of whole runs for every edge over the layers that were run."""
        return self.naive_layers / max(1, self.layers_run)


@dataclass(frozen=True)
class Search:
    """A circuit and the trials it comes from.

    circuit: pruned to what joins input and logits where that changes no logit (`details["pruned"]`
        says so), else as it was searched. history: every trial, in order.
    metric_model, metric_empty, metric_circuit: means over the pairs of the whole model, of no edge
        and of the circuit. details: every setting, and fingerprints of model and data.
    """

    circuit: Circuit
    history: tuple[Step, ...]
    metric_model: float
    metric_empty: float
    metric_circuit: float
    cost: Cost
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Heads and MLPs with an edge out of them, in the model's order."""
        kept = self.circuit.mask.any(dim=1).tolist()
        return tuple(
            node.name
            for node, stays in zip(self.circuit.layout.source_nodes, kept, strict=True)
            if stays and node.kind in ("head", "mlp")
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "layout": self.circuit.layout.to_dict(),
            "edges": list(self.circuit.edges),
            "history": history_rows(self.history),
            "metric_model": self.metric_model,
            "metric_empty": self.metric_empty,
            "metric_circuit": self.metric_circuit,
            "cost": dict(vars(self.cost)),
            "details": self.details,
        }

    def save(self, path: str | Path) -> None:
        """Write the search as JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Search:
        """Read what `save` wrote; a key that this version does not know is refused by name."""
        record = read_json(path)
        try:
            with error_context(str(path)):
                if "resume" in record:
                    raise CircuitsError(
                        "this search was stopped; run it again with the same settings and it goes "
                        "on"
                    )
                require_known(record, _RECORD)
                require_known(record["cost"], [field.name for field in fields(Cost)])
                details = record["details"]
                layout = Layout.from_dict(record["layout"])
                mask = Circuit.of(layout, record["edges"]).mask
                return cls(
                    Circuit(layout, mask, None, provenance_of(details)),
                    history_steps(record["history"]),
                    float(record["metric_model"]),
                    float(record["metric_empty"]),
                    float(record["metric_circuit"]),
                    Cost(**record["cost"]),
                    details,
                )
        except CircuitsError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CircuitsError(f"{path}: not a search file ({error!r})") from error


def provenance_of(details: dict[str, Any]) -> Provenance:
    """What a search says of itself, as a circuit's provenance."""
    return Provenance(**{key: details[key] for key in Provenance.model_fields if key in details})


def history_rows(history: tuple[Step, ...]) -> list[list[Any]]:
    """Steps as JSON rows: name, before, after, kept."""
    return [[step.name, step.before, step.after, step.kept] for step in history]


def history_steps(rows: list[list[Any]]) -> tuple[Step, ...]:
    """Steps from `history_rows`."""
    return tuple(Step(str(n), float(b), float(a), bool(k)) for n, b, a, k in rows)


class Journal:
    """The trials of a search that may be killed, in the file where its result will be.

    identity: whatever decides the outcome; a file of another search is refused. What a result's
    details say besides is not compared.
    """

    def __init__(self, path: str | Path | None, identity: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.identity = identity

    def read(self) -> tuple[tuple[Step, ...], dict[str, int]]:
        """Trials so far and what they cost; none where there is no file."""
        if self.path is None or not self.path.exists():
            return (), {}
        record = read_json(self.path)
        try:
            found = record["details"]
            cost: dict[str, int] = record["cost"]
            steps = history_steps(record["history"])
        except (KeyError, TypeError, ValueError) as error:
            raise CircuitsError(f"{self.path}: not a search file ({error!r})") from error
        if other := sorted(k for k in self.identity if found.get(k) != self.identity[k]):
            raise CircuitsError(
                f"{self.path}: belongs to a search with other {', '.join(other)}; "
                "write to another place, or delete it"
            )
        return steps, cost

    def write(self, history: tuple[Step, ...], cost: dict[str, int]) -> None:
        """Replace the file by one that says how far the search came."""
        if self.path is not None:
            rows = history_rows(history)
            record = {"details": self.identity, "history": rows, "cost": cost, "resume": True}
            write_json(self.path, record)


def plain(value: float) -> float | str:
    """A number as JSON holds it; infinity as text."""
    return value if math.isfinite(value) else str(value)
