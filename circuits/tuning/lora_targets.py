"""The sides of a LoRA comparison: each says which layers get an adapter."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from circuits.errors import CircuitsError
from circuits.importance import LayerImportance, critical_layers


@dataclass(frozen=True)
class LoraTarget:
    """A way of choosing layers: all of them, given ones, or so many at random.

    name: also a folder's name.
    layers: given layers, or None.
    draw: number of layers drawn afresh for each seed, or None. Any subset may come up, also one
        that another arm uses: a control that avoided them would not be random.
    criterion: how given layers were chosen, for tables.
    """

    name: str
    layers: tuple[int, ...] | None = None
    draw: int | None = None
    criterion: str = "all layers"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise CircuitsError(f"arm {self.name!r}: a name of letters, digits, '-', '_' and '.'")
        if self.layers is not None and self.draw is not None:
            raise CircuitsError(f"arm {self.name!r}: layers are either given or drawn, not both")
        if self.layers is not None and (not self.layers or min(self.layers) < 0):
            raise CircuitsError(f"arm {self.name!r}: no such layers as {list(self.layers)}")
        if self.draw is not None and self.draw < 1:
            raise CircuitsError(f"arm {self.name!r}: {self.draw} random layers; at least 1")

    @classmethod
    def standard(cls, name: str = "standard") -> LoraTarget:
        """Every layer."""
        return cls(name)

    @classmethod
    def important(cls, name: str, importance: LayerImportance, k: int) -> LoraTarget:
        """The k most important layers."""
        return cls(name, critical_layers(importance, k), criterion=importance.criterion)

    @classmethod
    def random(cls, k: int, name: str = "random") -> LoraTarget:
        """k layers, drawn for each seed."""
        return cls(name, draw=k, criterion="random")

    def choose(self, n_layers: int, seed: int) -> tuple[int, ...]:
        """The layers of this arm in a model of so many, in order."""
        if self.draw is not None:
            if self.draw > n_layers:
                raise CircuitsError(f"arm {self.name!r}: {self.draw} of {n_layers} layers")
            dice = random.Random(f"{self.name}/{seed}")
            return tuple(sorted(dice.sample(range(n_layers), self.draw)))
        chosen = tuple(range(n_layers)) if self.layers is None else tuple(sorted(set(self.layers)))
        if chosen[-1] >= n_layers:
            raise CircuitsError(f"arm {self.name!r}: layer {chosen[-1]} of {n_layers} layers")
        return chosen


def standard_lora_targets(
    targeted: LayerImportance, circuit: LayerImportance, k: int
) -> Sequence[LoraTarget]:
    """All layers; k by an internals criterion; k by the circuit's edges; k at random."""
    return (
        LoraTarget.standard(),
        LoraTarget.important("targeted", targeted, k),
        LoraTarget.important("circuit", circuit, k),
        LoraTarget.random(k),
    )


def describe(arm: LoraTarget) -> dict[str, Any]:
    """Plain values for JSON."""
    layers = None if arm.layers is None else list(arm.layers)
    return {"name": arm.name, "layers": layers, "draw": arm.draw, "criterion": arm.criterion}
