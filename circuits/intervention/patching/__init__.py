"""Exact interventions: activations of one run put into another, and single paths between nodes.

`patch` sweeps over sites (`SITES`), `path_patch` over paths; both give a `Patching`.
"""

from circuits.intervention.patching.path import path_patch
from circuits.intervention.patching.result import Axis, Patching, Recovery
from circuits.intervention.patching.sites import SITES
from circuits.intervention.patching.sweep import patch
from circuits.options.patching import PatchSpec

__all__ = ["SITES", "Axis", "PatchSpec", "Patching", "Recovery", "patch", "path_patch"]
