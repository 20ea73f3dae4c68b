"""What an engine must know of a model to hand it to its workers."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

Model = TypeVar("Model", covariant=True)


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
