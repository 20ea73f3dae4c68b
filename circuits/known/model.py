"""A model whose circuit is known, because its weights were written for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores
from circuits.known.ranking import auroc, found_first, sizes
from circuits.models import HookedModel
from tasks.pairs import PairSet, PromptPair

DrawPair = Callable[[random.Random, int], PromptPair]


@dataclass(frozen=True)
class KnownModel:
    """A model, a task that it solves, and the edges that carry it.

    The edges are those of the written construction along which clean and corrupted runs differ in
    what the reader looks at, as far as the answer depends on it. Corrupted alone or together with
    those that hide it, each changes the metric; without interference, all other edges together
    change nothing.

    Attributes:
        name: as `load` takes it.
        description: the task and the mechanism, in a sentence.
        model: the model; `model.hf` is the Hugging Face model.
        edges: what each edge of the circuit carries.
        hidden: for an edge of the circuit whose corruption alone changes nothing, since something
            else stands in for it: the edges that must be corrupted with it.
        metric: the metric of the pairs.
        draw: makes the pair of a row.
    """

    name: str
    description: str
    model: HookedModel
    edges: Mapping[str, str]
    draw: DrawPair
    metric: str = "logit-difference"
    hidden: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def pairs(self, n: int, seed: int = 0) -> PairSet:
        """Pairs of the task, drawn at random.

        Args:
            n: how many.
            seed: of the draws.

        Returns:
            The pairs, as token ids: there is no tokenizer.
        """
        rng = random.Random(f"{self.name} {seed}")
        rows = (replace(self.draw(rng, row), source=f"{self.name} {row}") for row in range(n))
        return PairSet(tuple(rows), task=self.name, metric=self.metric)

    @cached_property
    def circuit(self) -> Circuit:
        """The edges as a circuit, which can be run, evaluated and saved."""
        return Circuit.of(self.model.layout, self.edges)

    def save(self, folder: str | Path) -> None:
        """Write the model as `HookedModel.from_pretrained` and others read it, and its circuit.

        Args:
            folder: gets the configuration, the weights and `circuit.json`; there is no tokenizer.
        """
        self.model.hf.save_pretrained(folder)
        self.circuit.save(Path(folder) / "circuit.json")

    def auroc(self, scores: EdgeScores) -> float:
        """The chance that an edge of the circuit has a higher |score| than one outside it.

        Args:
            scores: of this model, by any method.

        Returns:
            From 0 to 1; 0.5 is chance. Equal scores, and all that are rounding, count half.
        """
        inside, every = self._values(scores)
        return float(auroc(every, inside))

    def found_first(self, scores: EdgeScores) -> float:
        """The share of the circuit among as many edges of the highest |score| as it has.

        Args:
            scores: of this model, by any method.

        Returns:
            From 0 to 1; of edges with equal scores at the border, their share.
        """
        inside, every = self._values(scores)
        return float(found_first(every, inside))

    def _values(self, scores: EdgeScores) -> tuple[Tensor, Tensor]:
        layout = self.model.layout
        if scores.layout != layout:
            raise CircuitsError(
                f"scores of a model with {scores.layout.summary}; {self.name} has {layout.summary}"
            )
        return self.circuit.mask[layout.mask], sizes(scores.matrix[layout.mask])
