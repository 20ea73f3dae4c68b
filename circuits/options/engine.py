"""Where batches are worked on: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from circuits.errors import CircuitsError
from circuits.options.choices import Count, Positive
from circuits.options.declared import Options, Within


@dataclass(frozen=True)
class RayEngine(Options):
    """Workers of a Ray cluster, in place of this process.

    Each worker is a process with the model loaded once. Batches are those that one process would
    make, and results are taken in the order in which it would take them, so they have the same
    bytes for every number of workers of one kind of machine.

    Attributes:
        address: A Ray cluster that already runs: auto, or host:port (default: Ray is started on
            this machine and ends with this process).
        workers: How many workers (default: as many as there is room for).
        cpus_per_worker: CPU cores of each worker, and the threads that it computes with; another
            number may give other last digits.
        gpus_per_worker: GPUs of each worker; 0 computes on the CPU.
        retries: How often a batch is given to another worker after its own died.
        start_timeout: Seconds to wait for the first worker.
    """

    address: str | None = None
    workers: Positive | None = None
    cpus_per_worker: Positive = 1
    gpus_per_worker: Count = 0
    retries: Count = 3
    start_timeout: Annotated[float, Within(above=0)] = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.address is not None and "://" in self.address:
            raise CircuitsError(
                f"address {self.address!r}: run this on a machine of the cluster (ray job submit "
                "does), with address auto or host:port"
            )

    @property
    def device(self) -> str:
        """Where a worker computes; Ray shows it its own devices alone."""
        return "cuda" if self.gpus_per_worker else "cpu"


@dataclass(frozen=True)
class EngineOptions(RayEngine):
    """An engine as a command line asks for it.

    Attributes:
        engine: Who works on the batches: ray for the workers of a Ray cluster (default: this
            process).
    """

    engine: Literal["ray"] | None = None
