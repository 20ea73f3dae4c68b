"""The mean of the gradients at the two ends of the path: the clean and the corrupted run.

Source: `clean-corrupted` of Hanna, Pezzelle & Belinkov (2024), "Have Faith in Faithfulness": EAP-IG
without the points between; in numerical terms the trapezoidal rule with one panel. Cost: two
forward and backward passes and two forwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from circuits.attribution.method import PathMethod
from circuits.attribution.quadrature import ENDPOINTS, Rule
from circuits.planning.costs import path_phases, path_work
from circuits.planning.jobs import CostModel


@dataclass(frozen=True)
class CleanCorrupted(PathMethod):
    """Half the gradient at the clean run and half at the corrupted one."""

    name: ClassVar[str] = "clean-corrupted"
    cost: ClassVar[CostModel] = CostModel(
        "clean-corrupted",
        "gradients at both ends",
        path_phases,
        path_work,
        2,
        splits=True,
        recomputes=True,
    )

    @property
    def quadrature_rule(self) -> Rule:
        """Both ends."""
        return ENDPOINTS
