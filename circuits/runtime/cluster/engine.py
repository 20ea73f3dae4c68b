"""Where batches are worked on: settings of the engine, and what it must know of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from circuits.errors import CircuitsError

Model = TypeVar("Model", covariant=True)


@dataclass(frozen=True)
class RayEngine:
    """Workers of a Ray cluster, in place of this process.

    Each worker is a process with the model loaded once. Batches are those that one process would
    make, and results are taken in the order in which it would take them, so they have the same
    bytes for every number of workers of one kind of machine.

    Attributes:
        address: of a cluster that is there, "auto" or "host:port"; None starts Ray on this machine,
            for as long as this process lives.
        workers: how many; None takes as many as there is room for.
        cpus_per_worker: cores of each, and the threads that it computes with; another number may
            give other last digits.
        gpus_per_worker: devices of each; 0 computes on the CPU.
        retries: how often a batch is given to another worker after the one that had it died.
        start_timeout: seconds to wait for the first worker.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_worker: int = 1
    gpus_per_worker: int = 0
    retries: int = 3
    start_timeout: float = 300.0

    def __post_init__(self) -> None:
        least = {"workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 0, "retries": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise CircuitsError(f"engine: {name} {value}; it must be at least {lowest}")
        if self.start_timeout <= 0:
            raise CircuitsError(f"engine: start_timeout {self.start_timeout}; it must be above 0")
        if self.address is not None and "://" in self.address:
            raise CircuitsError(
                f"engine: address {self.address!r}: run this on a machine of the cluster (ray job "
                "submit does), with address auto or host:port"
            )

    @property
    def device(self) -> str:
        """Where a worker computes; Ray shows it its own devices alone."""
        return "cuda" if self.gpus_per_worker else "cpu"

    def close(self) -> None:
        """Stop the workers, and Ray where it was started for them; a cluster that was there stays.

        It happens by itself when the process ends.
        """
        from circuits.runtime.cluster.pool import close

        close(self)


@runtime_checkable
class Recipe(Protocol[Model]):
    """How a worker comes by a model; it can be pickled."""

    @property
    def key(self) -> str:
        """Equal for equal models."""

    @property
    def name(self) -> str:
        """What messages call the model."""

    def __call__(self, device: str) -> Model:
        """Load the model, and refuse one that is not the driver's."""


@runtime_checkable
class Portable(Protocol[Model]):
    """A model that workers can have."""

    def recipe(self) -> Recipe[Model]:
        """How a worker comes by it."""
