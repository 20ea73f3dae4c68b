"""Rows of a local JSON lines, JSON, CSV or Parquet file, or of a saved dataset, each knowing where
it stands.

An error names the file and the line (JSON lines) or the row, counted from 1 and without the header.
JSON is a list of objects, or objects one after the other, each on one line or on several. A number
that is none (NaN, with which tables mark a gap) is an empty cell.

Rows that cannot be read by themselves can be left out instead: a line that is no JSON, a row of
other cells than the header names, a CSV row whose quotes do not match, what is no object. What
breaks a whole file (a JSON list without its end, another encoding) is refused all the same.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tasks import autocircuit, saved
from tasks.csv_records import CsvRecords
from tasks.errors import CircuitsError, InputError, error_context, unrepeated
from tasks.json_values import Repeated, loads, repeated
from tasks.pointers import pointer_among
from tasks.skipping import Skipped, described

_SPACE = re.compile(r"\s*")
_READERS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row: `source` is its place ("pairs.csv, row 3"), `values` its cells by column.

    alone: whether it is the one object of a JSON file, which may be no row but hold rows.
    """

    source: str
    values: Mapping[str, object]
    alone: bool = False

    def text(self, column: str) -> str:
        """The text in a column, stripped of outer whitespace; it must be there and not blank."""
        value = self.cell(column)
        self.require_no_column(column)
        if not isinstance(value, str):
            raise InputError(
                f"{self.source}: column {column!r} holds {type(value).__name__}, not text"
            )
        if not value.strip():
            raise InputError(f"{self.source}: column {column!r} is blank")
        return value.strip()

    def require_no_column(self, column: str) -> None:
        """Refuse the one object of a file whose cell is a list of texts: the whole column."""
        value = self.values.get(column)
        if self.alone and isinstance(value, list) and any(isinstance(text, str) for text in value):
            raise InputError(
                f"{self.source}: one object with its columns as lists, where a list of rows is "
                "expected (of pandas: to_json(orient='records'))"
            )

    def cell(self, column: str) -> object:
        """The value in a column; it must be there."""
        if self.values.get(column) is None:
            columns = ", ".join(repr(name) for name in self.values) or "none"
            if self.alone and column not in self.values:
                raise InputError(
                    f"{self.source}: one object, where a list of rows is expected, and no row "
                    f"itself, as it has no {column!r}; its keys are: {columns}"
                )
            raise InputError(
                f"{self.source}: no value in column {column!r}; the row's columns are: {columns}"
            )
        return self.values[column]


LeftOut = list[Skipped] | None
"""Takes the rows that cannot be read; None refuses them."""


def read_rows(path: str | Path, left_out: LeftOut = None) -> list[Row]:
    """All rows of a file, chosen by its ending: .jsonl, .json (a list, or JSON lines), .csv, .tsv
    or .parquet; or of a folder that `datasets.save_to_disk` wrote, whose splits become a column.
    At least one row, each with named columns.
    """
    path = Path(path)
    if saved.is_saved(path):
        return _required(path, list(_saved(path)), left_out)
    if path.suffix.lower() not in _READERS:
        raise InputError(f"{path}: the ending {path.suffix!r} is not one of {', '.join(_READERS)}")
    if not path.is_file():
        kind = "it is a folder, not a file" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {kind}")
    try:
        if pointer := pointer_among(path):
            raise InputError(f"{path}: {pointer}")
        rows = list(_read(path, left_out))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error})") from error
    return _required(path, rows, left_out)


def _required(path: Path, rows: list[Row], left_out: LeftOut) -> list[Row]:
    if not rows and left_out:
        raise InputError(f"{path}: no row can be used ({described(left_out)})")
    if not rows:
        raise InputError(f"{path}: the file has no rows")
    return rows


def _kept(source: str, make: Callable[[], Row], left_out: LeftOut) -> Iterator[Row]:
    """The row that is made, or none where it cannot be used and may be left out."""
    try:
        yield make()
    except CircuitsError as error:
        if left_out is None:
            raise
        left_out.append(Skipped.of(source, error))


def _saved(folder: Path) -> Iterator[Row]:
    by_split = saved.has_splits(folder)
    for split, rows in saved.load(folder).items():
        for number, values in enumerate(rows, start=1):
            prefix, column = (f"{split} ", {"split": split}) if by_split else ("", {})
            yield _row(f"{folder.name}, {prefix}row {number}", {**column, **values})


def _read(path: Path, left_out: LeftOut) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    if suffix in (".csv", ".tsv"):
        return _csv(path, "\t" if suffix == ".tsv" else ",", left_out)
    if suffix == ".json" and _starts_with_bracket(path):
        return _json(path, left_out)
    return _objects(path, left_out)


def _objects(path: Path, left_out: LeftOut) -> Iterator[Row]:
    """Objects one after the other; a single one that holds rows is opened, or refused by its keys.

    A line that is no JSON is named as such, or left out, only where the text is no row of JSON
    objects either.
    """
    rows = _read_objects(path, left_out)
    if len(rows) != 1 or left_out:
        yield from rows
        return
    (row,) = rows
    if autocircuit.is_prompts(row.values):
        for number, values in enumerate(autocircuit.rows(path.name, row.values), start=1):
            source = f"{path.name}, row {number}"
            yield from _kept(source, partial(_row, source, values), left_out)
        return
    if any(_holds_objects(value) for value in row.values.values()):
        raise InputError(
            f"{path.name}: one object, where a list of rows is expected; its keys are: "
            f"{', '.join(row.values)}"
        )
    yield Row(row.source, row.values, alone=True)


def _read_objects(path: Path, left_out: LeftOut) -> list[Row]:
    try:
        return _all_or_none(_json_lines(path, left_out), left_out)
    except _NoLineError as error:
        try:
            return _all_or_none(_json_stream(path, left_out), left_out)
        except json.JSONDecodeError as stream_error:
            if left_out is not None and not _over_lines(path):
                return list(_json_lines(path, left_out, any_line=True))
            if path.suffix.lower() == ".json" and error.first:
                raise InputError(
                    f"{path.name}, line {stream_error.lineno}: not JSON ({stream_error.msg} at "
                    f"column {stream_error.colno})"
                ) from stream_error
            raise InputError(str(error)) from error


def _all_or_none(rows: Iterator[Row], left_out: LeftOut) -> list[Row]:
    """All rows; where the text cannot be read in this way, nothing of it was left out either."""
    n_before = len(left_out or ())
    try:
        return list(rows)
    except (_NoLineError, json.JSONDecodeError):
        if left_out is not None:
            del left_out[n_before:]
        raise


class _NoLineError(Exception):
    """A line that holds no JSON by itself; `first` where none before it did."""

    def __init__(self, message: str, *, first: bool) -> None:
        super().__init__(message)
        self.first = first


def _json_lines(path: Path, left_out: LeftOut, *, any_line: bool = False) -> Iterator[Row]:
    """An object a line. any_line: whether a line that is no JSON may be left out too."""
    is_first = True
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                source = f"{path.name}, line {number}"
                try:
                    yield from _kept(source, partial(_line_row, source, line), left_out)
                except json.JSONDecodeError as error:
                    reason = f"not JSON ({error.msg} at column {error.colno})"
                    if not any_line or left_out is None:
                        raise _NoLineError(f"{source}: {reason}", first=is_first) from error
                    left_out.append(Skipped(source, reason))
                is_first = False


def _line_row(source: str, line: str) -> Row:
    with error_context(source):
        value = loads(line, unrepeated)
    return _row(source, value)


def _over_lines(path: Path) -> bool:
    """Whether a text that cannot be read has its objects over several lines, or in one list: then
    no line is a row by itself, and what of it can be read is a part of one.
    """
    with path.open(encoding="utf-8-sig") as file:
        lines = [line for line in file if line.strip()]
    if lines[0].strip() == "{" or lines[0].lstrip().startswith("["):
        return True
    for line in lines:
        if line[0].isspace():
            try:
                json.loads(line)
            except json.JSONDecodeError:
                continue
            return True
    return False


def _json_stream(path: Path, left_out: LeftOut) -> Iterator[Row]:
    """Objects that stand over several lines."""
    text = path.read_text(encoding="utf-8-sig")
    line, counted_to, position = 1, 0, _after_space(text, 0)
    while position < len(text):
        line, counted_to = line + text.count("\n", counted_to, position), position
        end = json.JSONDecoder().raw_decode(text, position)[1]
        source = f"{path.name}, line {line}"
        yield from _kept(source, partial(_line_row, source, text[position:end]), left_out)
        position = _after_space(text, end)


def _after_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _json(path: Path, left_out: LeftOut) -> Iterator[Row]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        with error_context(path.name):
            hook = unrepeated if left_out is None else Repeated.made
            values = loads(text, hook)
    except json.JSONDecodeError as error:
        raise InputError(f"{path.name}, line {error.lineno}: not JSON ({error.msg})") from error
    assert isinstance(values, list)  # the text begins with a bracket
    for number, value in enumerate(values, start=1):
        source = f"{path.name}, row {number}"
        yield from _kept(source, partial(_row, source, value), left_out)


def _csv(path: Path, delimiter: str, left_out: LeftOut) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # an article may be longer than csv's 131,072 characters
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = file.readlines()
    if lines and delimiter not in lines[0]:
        # Excel writes the list separator of the country it is set to.
        delimiter = next((mark for mark in ",;\t" if mark in lines[0]), delimiter)
    records = CsvRecords(lines, delimiter)
    try:
        header, number = records.next() or [], 0
    except csv.Error as error:
        raise InputError(f"{path.name}, row 1: malformed CSV ({error})") from error
    if duplicates := {name for name in header if name and header.count(name) > 1}:
        raise InputError(
            f"{path.name}: two columns are named {min(duplicates)!r}; rename one of them"
        )
    while not records.ended:
        start, source = records.line, f"{path.name}, row {number + 1}"
        try:
            cells = records.next()
        except csv.Error as error:
            if left_out is None:
                raise InputError(f"{source}: malformed CSV ({error})") from error
            number += 1
            last_line = records.recover(start, len(header))
            line_range = (
                f"line {start + 1}"
                if last_line == start + 1
                else f"lines {start + 1} to {last_line}"
            )
            left_out.append(Skipped(source, f"malformed CSV in {line_range} ({error})"))
            continue
        if not cells:  # a blank line
            continue
        number += 1
        yield from _kept(source, partial(_csv_row, source, header, cells), left_out)


def _csv_row(source: str, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise InputError(
            f"{source}: {len(cells)} cells, but the header names {len(header)} columns; quote a "
            "text that holds the delimiter"
        )
    return Row(source, dict(zip(header, cells, strict=True)))


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
        raise InputError(f"{path}: not a Parquet file ({error})") from error


def _starts_with_bracket(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as file:
        return next((line for line in file if line.strip()), "").lstrip().startswith("[")


def _holds_objects(value: object) -> bool:
    """Whether a cell is an object or a list with one in it, as no column's value is."""
    return isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(element, dict) for element in value)
    )


def _row(source: str, value: object) -> Row:
    if error := repeated(value):
        raise InputError(f"{source}: {error}") from error
    if not isinstance(value, dict):
        raise InputError(
            f"{source}: {type(value).__name__} where an object with named columns is expected"
        )
    return Row(source, {name: None if _is_gap(cell) else cell for name, cell in value.items()})


def _is_gap(cell: object) -> bool:
    return isinstance(cell, float) and math.isnan(cell)
