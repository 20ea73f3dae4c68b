"""The conditions of a LoRA comparison: each says which layers get an adapter."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from circuits.errors import CircuitsError
from circuits.importance import LayerImportance, critical_layers


@dataclass(frozen=True)
class LoraTarget:
    """A way of choosing layers: all of them, given ones, or a number drawn at random.

    name: the condition's name in tables; also a folder's name.
    layers: given layers, or None.
    draw: number of layers drawn for each seed, or None. Any subset may come up, also one that
        another condition uses: a control that avoided them would not be random.
    criterion: how given layers were chosen, for tables.
    """

    name: str
    layers: tuple[int, ...] | None = None
    draw: int | None = None
    criterion: str = "all layers"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise CircuitsError(
                f"condition {self.name!r}: a name of letters, digits, '-', '_' and '.'"
            )
        if self.layers is not None and self.draw is not None:
            raise CircuitsError(f"condition {self.name!r}: layers are given or drawn, not both")
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
        """k layers, drawn for each seed.

        Args:
            k: how many layers.
            name: of the condition.

        Returns:
            The condition.
        """
        return cls(name, draw=k, criterion="random")

    def choose(self, n_layers: int, seed: int) -> tuple[int, ...]:
        """The layers to adapt in a model of `n_layers` layers, in order.

        Args:
            n_layers: of the model.
            seed: of the draw, where layers are drawn.

        Returns:
            Layers.

        Raises:
            CircuitsError: where the model has too few layers.
        """
        if self.draw is not None:
            if self.draw > n_layers:
                raise CircuitsError(f"condition {self.name!r}: {self.draw} of {n_layers} layers")
            dice = random.Random(f"{self.name}/{seed}")
            return tuple(sorted(dice.sample(range(n_layers), self.draw)))
        chosen = tuple(range(n_layers)) if self.layers is None else tuple(sorted(set(self.layers)))
        if chosen[-1] >= n_layers:
            raise CircuitsError(f"condition {self.name!r}: layer {chosen[-1]} of {n_layers} layers")
        return chosen


def standard_lora_targets(
    targeted: LayerImportance, k: int, circuit: LayerImportance | None = None
) -> tuple[LoraTarget, ...]:
    """The conditions of a comparison: standard, targeted, circuit if given, and random.

    Args:
        targeted: what the targeted condition chooses its layers by.
        k: how many layers each condition but the standard one adapts.
        circuit: the importance by the circuit's edges, where `targeted` is by another criterion.

    Returns:
        All layers ("standard"); the k most important ("targeted"); the k most important to the
        circuit ("circuit"), if given; k at random ("random").

    Raises:
        CircuitsError: if fewer than k layers have any importance.
    """
    second = () if circuit is None else (LoraTarget.important("circuit", circuit, k),)
    return (
        LoraTarget.standard(),
        LoraTarget.important("targeted", targeted, k),
        *second,
        LoraTarget.random(k),
    )
