"""Memory and time of a job, from a model's configuration alone."""

from circuits.planning.device import (
    Rates,
    available_memory,
    measure_rates,
    parse_bytes,
    resident_bytes,
)
from circuits.planning.passes import Shape
from circuits.planning.plan import (
    METHODS,
    Job,
    Plan,
    largest_batch,
    plan,
    planned_batch_size,
    suggestions,
)

__all__ = [
    "METHODS",
    "Job",
    "Plan",
    "Rates",
    "Shape",
    "available_memory",
    "largest_batch",
    "measure_rates",
    "parse_bytes",
    "plan",
    "planned_batch_size",
    "resident_bytes",
    "suggestions",
]
