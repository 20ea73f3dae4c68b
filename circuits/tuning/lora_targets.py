"""The conditions of a LoRA comparison: each says what of a model is trained, and how.

What it does not say, all conditions share: the rank that gives everyone the same number of
parameters, the parts of a layer, the learning rate or the grid that it is tuned on, the batch.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from circuits.errors import CircuitsError
from circuits.importance import LayerImportance, MapImportance, critical_layers
from circuits.options.choices import AdapterPart
from circuits.tuning.projections import Projections
from circuits.tuning.ranks import ranks_by_importance


@dataclass(frozen=True)
class LoraTarget:
    """What is trained: all layers, given ones, random ones, maps by importance, or all weights.

    name: the condition's name in tables; also a folder's name.
    layers: given layers, or None.
    draw: number of layers drawn for each run, or None. Any subset may come up, also one that
        another condition uses: a control that avoided them would not be random.
    maps: importance of linear maps, in whose proportion they get parameters; or None.
    by_head: whether of an attention's maps only the heads that have importance in `maps` train.
    full: all weights are trained, and there is no adapter.
    criterion: how this was chosen, for tables.
    parts: projections that get an adapter; None takes those of the comparison.
    rank: of the adapter, whatever number of parameters that gives; None takes the one that comes
        nearest to the comparison's.
    learning_rate: its own, which is not tuned; None takes the comparison's.
    batch_size: its own; None takes the comparison's.
    """

    name: str
    layers: tuple[int, ...] | None = None
    draw: int | None = None
    criterion: str = "all layers"
    maps: MapImportance | None = None
    by_head: bool = False
    full: bool = False
    parts: tuple[AdapterPart, ...] | None = None
    rank: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise CircuitsError(
                f"condition {self.name!r}: a name of letters, digits, '-', '_' and '.'"
            )
        if self.name == BASE:
            raise CircuitsError(f"condition {BASE!r}: that is the untrained base")
        if sum([self.layers is not None, self.draw is not None, self.maps is not None]) > 1:
            raise CircuitsError(
                f"condition {self.name!r}: layers are given or drawn, or maps are ranked; not "
                "several at once"
            )
        if self.by_head and self.maps is None:
            raise CircuitsError(f"condition {self.name!r}: heads are chosen by importance of maps")
        if self.full and (self.layers, self.draw, self.maps, self.parts, self.rank) != (None,) * 5:
            raise CircuitsError(f"condition {self.name!r}: all weights are trained, without a LoRA")
        if self.layers is not None and (not self.layers or min(self.layers) < 0):
            raise CircuitsError(f"condition {self.name!r}: no such layers as {list(self.layers)}")
        if self.draw is not None and self.draw < 1:
            raise CircuitsError(f"condition {self.name!r}: {self.draw} random layers; at least 1")

    @classmethod
    def standard(cls, name: str = "standard") -> LoraTarget:
        """Every layer.

        Args:
            name: of the condition.

        Returns:
            The condition.
        """
        return cls(name)

    @classmethod
    def important(cls, name: str, importance: LayerImportance, k: int) -> LoraTarget:
        """The k most important layers.

        Args:
            name: of the condition.
            importance: of every layer, by one criterion.
            k: how many layers.

        Returns:
            The condition.
        """
        return cls(name, critical_layers(importance, k), criterion=importance.criterion)

    @classmethod
    def random(cls, k: int, name: str = "random") -> LoraTarget:
        """k layers, drawn for each run.

        Args:
            k: how many layers.
            name: of the condition.

        Returns:
            The condition.
        """
        return cls(name, draw=k, criterion="random")

    def choose(self, n_layers: int, seed: int, draw: int = 0) -> tuple[int, ...]:
        """The layers to adapt in a model of `n_layers` layers, in order; all of ranked maps.

        Args:
            n_layers: of the model.
            seed: of the run.
            draw: which of the draws with this seed, where layers are drawn.

        Returns:
            Layers.

        Raises:
            CircuitsError: where the model has too few layers.
        """
        if self.draw is not None:
            if self.draw > n_layers:
                raise CircuitsError(f"condition {self.name!r}: {self.draw} of {n_layers} layers")
            dice = random.Random(f"{self.name}/{seed}" + (f"/{draw}" if draw else ""))
            return tuple(sorted(dice.sample(range(n_layers), self.draw)))
        layers = tuple(range(n_layers)) if self.layers is None else tuple(sorted(set(self.layers)))
        if layers[-1] >= n_layers:
            raise CircuitsError(f"condition {self.name!r}: layer {layers[-1]} of {n_layers} layers")
        return layers

    def ranks(
        self, projections: Projections, budget: int, seed: int, draw: int = 0
    ) -> dict[str, int]:
        """The rank of every map that gets an adapter, by its name in the model.

        Args:
            projections: the maps of the comparison; by head, with the widths that train.
            budget: parameters to come near to, where the condition has no rank of its own.
            seed: of the run.
            draw: which of the draws with this seed.

        Returns:
            Ranks; none where all weights are trained.

        Raises:
            CircuitsError: where the model has too few layers.
        """
        if self.full:
            return {}
        own_projections = projections if self.parts is None else projections.only(self.parts)
        if self.maps is not None:
            return ranks_by_importance(own_projections, self.maps, budget)
        layers = self.choose(own_projections.n_layers, seed, draw)
        rank = own_projections.matching_rank(layers, budget) if self.rank is None else self.rank
        return dict.fromkeys(own_projections.of_layers(layers), rank)


BASE = "none"
"""What the untrained base is called among the conditions."""
