"""Edge attribution patching (EAP): one gradient, at the clean run.

Source: Syed, Rager & Conmy (2023), "Attribution Patching Outperforms Automated Circuit Discovery".
Cost: three forward passes and one backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from circuits.attribution.method import PathMethod
from circuits.attribution.quadrature import CLEAN, Rule


@dataclass(frozen=True)
class EAP(PathMethod):
    """The gradient at the clean run, times the difference of the sources."""

    name: ClassVar[str] = "eap"

    @property
    def at(self) -> Rule:
        """The clean end alone."""
        return CLEAN
