"""How work runs, in one place: what every function that runs a model takes as `options`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from circuits.errors import CircuitsError
from circuits.runtime.cluster.engine import RayEngine

T = TypeVar("T")


@dataclass(frozen=True)
class RunOptions:
    """Batches, the seed of every random draw, and progress.

    Attributes:
        batch_size: prompt pairs at a time; None asks the planner for as many as fit.
        seed: of resamples, random circuits and every other draw.
        progress: show a progress bar on stderr.
        engine: whose workers run the batches; None runs them in this process.
    """

    batch_size: int | None = None
    seed: int = 0
    progress: bool = False
    engine: RayEngine | None = None


def options_from(kind: type[T], **values: Any) -> T:
    """Typed options from values of a command line, which no type checker has seen.

    Args:
        kind: a dataclass of options.
        values: its fields, by name.

    Returns:
        The options.

    Raises:
        CircuitsError: for a value that a field cannot have; it names those that it can.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        if isinstance(refused := first.get("ctx", {}).get("error"), CircuitsError):
            raise refused from error
        field = str(first["loc"][0]) if first["loc"] else kind.__name__
        if first["type"] == "literal_error":
            known = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
            raise CircuitsError(f"unknown {field} {first['input']!r}; known: {known}") from error
        raise CircuitsError(f"{field}: {first['msg']}") from error
