"""Rows one after the other, from the hub or from files of any size, by `datasets`' streaming.

Nothing is downloaded or converted before it is asked for. Rows are mixed within a buffer, as
`datasets` does it: a sample's first rows come from the beginning of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from tasks import saved, splits
from tasks.builtin.summarization.articles import article_column, load_dataset
from tasks.errors import CircuitsError, InputError
from tasks.files import Row
from tasks.hub import require_split
from tasks.named_splits import Split
from tasks.skipping import Skipped


@runtime_checkable
class _Streamed(Protocol):
    """What is used of a `datasets.IterableDataset`."""

    def __iter__(self) -> Iterator[dict[str, object]]: ...
    def map(
        self, function: Callable[[object, int], Mapping[str, object]], *, with_indices: bool
    ) -> _Streamed: ...
    def shuffle(self, *, seed: int, buffer_size: int) -> _Streamed: ...


LeftOut = list[Skipped] | None
MIXED = 1000  # rows in the buffer that a draw is mixed in
_NUMBER = "row number"  # a column of our own, gone before a row is seen
_BUILDERS: dict[str, tuple[str, dict[str, object]]] = {
    ".jsonl": ("json", {}),
    ".ndjson": ("json", {}),
    ".json": ("json", {}),
    ".csv": ("csv", {"keep_default_na": False}),
    ".tsv": ("csv", {"keep_default_na": False, "sep": "\t"}),
    ".parquet": ("parquet", {}),
}


def stream_file(
    path: str | Path, split: Split, article: str | None, *, seed: int | None, left_out: LeftOut
) -> Iterator[Row]:
    """The rows of one split of a file, or of a folder that `save_to_disk` wrote.

    seed: of the order; None keeps the file's. left_out: takes rows whose split cannot be told,
    which are refused without it.
    """
    path = Path(path)
    if saved.is_saved(path):
        yield from stream_dataset(str(path), split, config=None, seed=seed)
        return
    splits.check(split)
    if path.suffix.lower() not in _BUILDERS:
        endings = ", ".join(_BUILDERS)
        raise InputError(f"{path}: the ending {path.suffix!r} is not one of {endings}")
    for row in _rows(path.name, "", _file(path), seed):
        try:
            row_split = split if split == "all" else splits.of_row(row, _text(article))
        except CircuitsError as error:
            if left_out is None:
                raise
            left_out.append(Skipped.of(row.source, error))
            continue
        if row_split == split:
            yield row


def stream_dataset(
    name: str, split: Split, *, config: str | None, seed: int | None
) -> Iterator[Row]:
    """The rows of one split of a dataset, as `articles.from_dataset` names them."""
    splits.check(split)
    dataset = load_dataset(name, config, stream=True)
    require_split(name, dataset, split)
    for split_name, rows in dataset.items():
        if split in ("all", split_name):
            yield from _rows(name, f"{split_name} ", rows, seed)


def _text(column: str | None) -> Callable[[Row], str]:
    return lambda row: row.text(article_column(row, column))


def _rows(name: str, prefix: str, rows: _Streamed, seed: int | None) -> Iterator[Row]:
    numbered_rows = rows.map(lambda _, index: {_NUMBER: index + 1}, with_indices=True)
    if seed is not None:
        numbered_rows = numbered_rows.shuffle(seed=seed, buffer_size=MIXED)
    try:
        for values in numbered_rows:
            number = values.pop(_NUMBER)
            yield Row(f"{name}, {prefix}row {number}", values)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, CircuitsError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{name}: the stream cannot be read on ({reason}); without stream=true, rows that "
            "cannot be read are named, or left out by skip"
        ) from error


def _file(path: Path) -> _Streamed:
    import datasets

    builder, options = _BUILDERS[path.suffix.lower()]
    rows: _Streamed = datasets.load_dataset(
        builder, data_files=str(path), split="train", streaming=True, **options
    )
    return rows
