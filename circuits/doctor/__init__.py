"""What an installation can do, and what is wrong with it: `circuits doctor`."""

from circuits.doctor.diagnose import CHECKS, diagnose
from circuits.doctor.diagnosis import Check, Diagnosis, Finding

__all__ = ["CHECKS", "Check", "Diagnosis", "Finding", "diagnose"]
