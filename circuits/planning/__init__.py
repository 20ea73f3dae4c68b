"""Memory and time of a job, from a model's configuration alone."""

from circuits.planning.combinations import Change, Combination, Fit, FitSearch, combinations
from circuits.planning.costs import JOBS
from circuits.planning.device import (
    Rates,
    available_memory,
    measure_rates,
    parse_bytes,
    resident_bytes,
    total_memory,
)
from circuits.planning.devices import Devices, guessed_rates
from circuits.planning.jobs import CostModel, Job
from circuits.planning.microbatch import choose_batch_size, choose_recomputation
from circuits.planning.passes import Shape
from circuits.planning.plan import Plan, largest_batch, plan

__all__ = [
    "JOBS",
    "Change",
    "Combination",
    "CostModel",
    "Devices",
    "Fit",
    "FitSearch",
    "Job",
    "Plan",
    "Rates",
    "Shape",
    "available_memory",
    "choose_batch_size",
    "choose_recomputation",
    "combinations",
    "guessed_rates",
    "largest_batch",
    "measure_rates",
    "parse_bytes",
    "plan",
    "resident_bytes",
    "total_memory",
]
