"""Edge attribution patching (EAP): one gradient, at the clean run.

Source: Syed, Rager & Conmy (2023), "Attribution Patching Outperforms Automated Circuit Discovery".
Cost: three forward passes and one backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from circuits.attribution.method import PathMethod
from circuits.attribution.quadrature import CLEAN, Rule
from circuits.planning.costs import path_phases, path_work
from circuits.planning.jobs import CostModel


@dataclass(frozen=True)
class EAP(PathMethod):
    """The gradient at the clean run, times the difference of the sources."""

    name: ClassVar[str] = "eap"
    cost: ClassVar[CostModel] = CostModel(
        "eap",
        "one gradient, at the clean run",
        path_phases,
        path_work,
        splits=True,
        recomputes=True,
    )

    @property
    def quadrature_rule(self) -> Rule:
        """The clean end alone."""
        return CLEAN
