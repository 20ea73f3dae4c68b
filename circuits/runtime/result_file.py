"""Result files: each is the JSON of one pydantic model, and reads back as the object that it was.

Parts of a result are frozen dataclasses or pydantic models. Floats that may be undefined are
`MaybeUndefined`: NaN in Python, null in the file. Tensors are `Annotated[Float[...], AsList()]`:
nested lists in the file, float64 when read back.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    PlainSerializer,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.runtime.files import read_json, write_json

MaybeUndefined = Annotated[
    float,
    BeforeValidator(
        lambda value: math.nan if value is None else value, json_schema_input_type=float | None
    ),
    PlainSerializer(lambda value: value if math.isfinite(value) else None, when_used="json"),
]
"""A float, NaN where it is undefined; null in JSON."""


class AsList:
    """How a tensor stands in JSON: `Annotated[Float[Tensor, "layer head"], AsList()]`."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._read,
            json_schema_input_schema=core_schema.list_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(
                self._write, when_used="json"
            ),
        )

    def _read(self, value: object) -> Tensor:
        if isinstance(value, Tensor):
            return value
        return torch.tensor(_filled(value), dtype=self.dtype)

    def _write(self, value: Tensor) -> object:
        return _emptied(value.tolist())


class Record(BaseModel):
    """A part of a result file. Unknown keys are refused, so that a typing error is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")


R = TypeVar("R", bound="ResultFile")
"""In place of `Self`, which beartype refuses in functions that are checked one by one."""


class ResultFile(Record):
    """A result file. A subclass names what it holds as `kind`, and counts its changes of form.

    kind: what the file holds. schema_version: goes up when a file of before can no longer be read.
    """

    KIND: ClassVar[str]
    SCHEMA_VERSION: ClassVar[int] = 1

    def to_json(self) -> dict[str, object]:
        """The file's content, as JSON values."""
        content: dict[str, object] = self.model_dump(mode="json")
        return {"kind": self.KIND, "schema_version": self.SCHEMA_VERSION, **content}

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all.

        Args:
            path: where to.

        Returns:
            The path.
        """
        path = Path(path)
        write_json(path, self.to_json())
        return path

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """Read the file back.

        Args:
            path: a file that `save` wrote.

        Returns:
            The object that was saved.

        Raises:
            CircuitsError: where the file is missing, broken, of another kind or schema version.
        """
        content = read_json(Path(path))
        if not isinstance(content, dict):
            raise CircuitsError(f"{path}: not a result file; it holds no JSON object")
        return cls.from_json(content, str(path))

    @classmethod
    def from_json(cls: type[R], content: dict[str, object], source: str) -> R:
        """The object of a file's content; `source` names the file in errors."""
        kind, version = content.get("kind"), content.get("schema_version")
        if kind != cls.KIND:
            description = f"a file of kind {kind}" if kind else "a file that names no kind"
            advice = "give a file of that kind" if kind else "make it again"
            raise CircuitsError(f"{source}: {description}, where {cls.KIND} is read; {advice}")
        if version != cls.SCHEMA_VERSION:
            raise CircuitsError(
                f"{source}: schema version {version}; this version of circuits reads "
                f"{cls.SCHEMA_VERSION}. Make the file again, or read it with the version of "
                "circuits that wrote it"
            )
        inner = {k: v for k, v in content.items() if k not in ("kind", "schema_version")}
        try:
            return cls.model_validate_json(json.dumps(inner))
        except ValidationError as error:
            raise CircuitsError(f"{source}: {_reason(error)}") from error


def _reason(error: ValidationError) -> str:
    """What is wrong with a file's content, and where in it."""
    first = error.errors()[0]
    loc = [str(step) for step in first["loc"]]
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        inside = f"{'.'.join(loc[:-1])}: " if loc[1:] else ""
        return (
            f"{inside}unknown key '{loc[-1]}'; it may be of a later version and change what the "
            "file means, so remove it only if it does not"
        )
    message = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(loc) or 'the file'}: {message}; make the file again"


def _filled(value: object) -> object:
    """NaN for null, at any depth."""
    if isinstance(value, list):
        return [_filled(inner) for inner in value]
    return math.nan if value is None else value


def _emptied(value: object) -> object:
    """Null for what is not finite, at any depth."""
    if isinstance(value, list):
        return [_emptied(inner) for inner in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
