"""Rows of a local JSON lines, JSON, CSV or Parquet file, or of a saved dataset, each knowing where
it stands.

An error names the file and the line (JSON lines) or the row, counted from 1 and without the header.
JSON is a list of objects, or objects one after the other, each on one line or on several. A number
that is none (NaN, with which tables mark a gap) is an empty cell.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import autocircuit, saved
from tasks.errors import CircuitsError, naming, unrepeated
from tasks.pointers import pointer_among

_SPACE = re.compile(r"\s*")
_READERS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row: `source` is its place ("pairs.csv, row 3"), `values` its cells by column.

    alone: whether it is the one object of a JSON file, which may be no row but hold rows.
    """

    source: str
    values: Mapping[str, Any]
    alone: bool = False

    def text(self, column: str) -> str:
        """The text in a column, stripped of outer whitespace; it must be there and not blank."""
        value = self.cell(column)
        if not isinstance(value, str):
            raise CircuitsError(
                f"{self.source}: column {column!r} holds {type(value).__name__}, not text"
            )
        if not value.strip():
            raise CircuitsError(f"{self.source}: column {column!r} is blank")
        return value.strip()

    def cell(self, column: str) -> Any:
        """The value in a column; it must be there."""
        if self.values.get(column) is None:
            found = ", ".join(repr(name) for name in self.values) or "none"
            if self.alone and column not in self.values:
                raise CircuitsError(
                    f"{self.source}: one object, where a list of rows is expected, and no row "
                    f"itself, as it has no {column!r}; its keys are: {found}"
                )
            raise CircuitsError(
                f"{self.source}: no value in column {column!r}; the row's columns are: {found}"
            )
        return self.values[column]


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a file, chosen by its ending: .jsonl, .json (a list, or JSON lines), .csv, .tsv
    or .parquet; or of a folder that `datasets.save_to_disk` wrote, whose splits become a column.
    At least one row, each with named columns.
    """
    path = Path(path)
    if saved.is_saved(path):
        return _required(path, list(_saved(path)))
    if path.suffix.lower() not in _READERS:
        raise CircuitsError(
            f"{path}: the ending {path.suffix!r} is not one of {', '.join(_READERS)}"
        )
    if not path.is_file():
        kind = "it is a folder, not a file" if path.is_dir() else "no such file"
        raise CircuitsError(f"{path}: {kind}")
    try:
        if pointer := pointer_among(path):
            raise CircuitsError(f"{path}: {pointer}")
        rows = list(_read(path))
    except OSError as error:
        raise CircuitsError(f"{path}: cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise CircuitsError(f"{path}: not UTF-8 text ({error})") from error
    return _required(path, rows)


def _required(path: Path, rows: list[Row]) -> list[Row]:
    if not rows:
        raise CircuitsError(f"{path}: the file has no rows")
    return rows


def _saved(folder: Path) -> Iterator[Row]:
    by_split = saved.has_splits(folder)
    for split, part in saved.load(folder).items():
        for number, values in enumerate(part, start=1):
            place, column = (f"{split} ", {"split": split}) if by_split else ("", {})
            yield _row(f"{folder.name}, {place}row {number}", {**column, **values})


def _read(path: Path) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    if suffix in (".csv", ".tsv"):
        return _csv(path, "\t" if suffix == ".tsv" else ",")
    if suffix == ".json" and _starts_with_bracket(path):
        return _json(path)
    return _objects(path)


def _objects(path: Path) -> Iterator[Row]:
    """Objects one after the other; a single one that holds rows is opened, or refused by its keys.

    A line that is no JSON is named as such only where the text is no row of JSON objects either.
    """
    try:
        found = list(_json_lines(path))
    except _NoLineError as error:
        try:
            found = list(_json_stream(path))
        except json.JSONDecodeError as whole:
            if path.suffix.lower() == ".json" and error.first:
                raise CircuitsError(
                    f"{path.name}, line {whole.lineno}: not JSON ({whole.msg} at column "
                    f"{whole.colno})"
                ) from whole
            raise CircuitsError(str(error)) from error
    if len(found) > 1 or not found:
        yield from found
        return
    (row,) = found
    if autocircuit.is_prompts(row.values):
        for number, values in enumerate(autocircuit.rows(path.name, row.values), start=1):
            yield _row(f"{path.name}, row {number}", values)
        return
    if any(_holds_objects(value) for value in row.values.values()):
        raise CircuitsError(
            f"{path.name}: one object, where a list of rows is expected; its keys are: "
            f"{', '.join(row.values)}"
        )
    yield Row(row.source, row.values, alone=True)


class _NoLineError(Exception):
    """A line that holds no JSON by itself; `first` where none before it did."""

    def __init__(self, message: str, *, first: bool) -> None:
        super().__init__(message)
        self.first = first


def _json_lines(path: Path) -> Iterator[Row]:
    first = True
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                source = f"{path.name}, line {number}"
                try:
                    with naming(source):
                        value = json.loads(line, object_pairs_hook=unrepeated)
                except json.JSONDecodeError as error:
                    raise _NoLineError(
                        f"{source}: not JSON ({error.msg} at column {error.colno})", first=first
                    ) from error
                first = False
                yield _row(source, value)


def _json_stream(path: Path) -> Iterator[Row]:
    """Objects that stand over several lines."""
    text = path.read_text(encoding="utf-8-sig")
    decoder = json.JSONDecoder(object_pairs_hook=unrepeated)
    line, counted, place = 1, 0, _after_space(text, 0)
    while place < len(text):
        line, counted = line + text.count("\n", counted, place), place
        source = f"{path.name}, line {line}"
        with naming(source):
            value, end = decoder.raw_decode(text, place)
        yield _row(source, value)
        place = _after_space(text, end)


def _after_space(text: str, place: int) -> int:
    space = _SPACE.match(text, place)
    return space.end() if space else place


def _json(path: Path) -> Iterator[Row]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        with naming(path.name):
            values = json.loads(text, object_pairs_hook=unrepeated)
    except json.JSONDecodeError as error:
        raise CircuitsError(f"{path.name}, line {error.lineno}: not JSON ({error.msg})") from error
    for number, value in enumerate(values, start=1):
        yield _row(f"{path.name}, row {number}", value)


def _csv(path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # an article may be longer than csv's 131,072 characters
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        if delimiter not in first:  # Excel writes the list separator of the country it is set to
            delimiter = next((mark for mark in ",;\t" if mark in first), delimiter)
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        number = 0
        try:
            header = next(lines, [])
            if twice := {name for name in header if name and header.count(name) > 1}:
                raise CircuitsError(
                    f"{path.name}: two columns are named {min(twice)!r}; rename one of them"
                )
            for cells in lines:
                if not cells:  # a blank line
                    continue
                number += 1
                if len(cells) != len(header):
                    raise CircuitsError(
                        f"{path.name}, row {number}: {len(cells)} cells, but the header names "
                        f"{len(header)} columns; quote a text that holds the delimiter"
                    )
                yield Row(f"{path.name}, row {number}", dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise CircuitsError(
                f"{path.name}, row {number + 1}: malformed CSV ({error})"
            ) from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield _row(f"{path.name}, row {number}", values)
    except pyarrow.ArrowException as error:
        raise CircuitsError(f"{path}: not a Parquet file ({error})") from error


def _starts_with_bracket(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as file:
        return next((line for line in file if line.strip()), "").lstrip().startswith("[")


def _holds_objects(value: Any) -> bool:
    """Whether a cell is an object or a list with one in it, as no column's value is."""
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(part, dict) for part in value)
    )


def _row(source: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise CircuitsError(
            f"{source}: {type(value).__name__} where an object with named columns is expected"
        )
    return Row(source, {name: None if _is_gap(cell) else cell for name, cell in value.items()})


def _is_gap(cell: Any) -> bool:
    return isinstance(cell, float) and math.isnan(cell)
