"""How hard a written model is made for those who look for its circuit."""

from __future__ import annotations

from dataclasses import dataclass

from circuits.errors import CircuitsError


@dataclass(frozen=True)
class Setting:
    """What is done to a construction beside its circuit.

    Attributes:
        interference: how much idle heads and neurons write into the spaces that the circuit uses,
            for each unit that they write elsewhere.
        sharpness: what all attention logits are multiplied with.
    """

    interference: float = 0.0
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        if not (self.interference >= 0 and self.sharpness > 0):
            raise CircuitsError(f"{self}: interference must be at least 0, and sharpness above 0")
