"""Datasets that `datasets` wrote into a folder with `save_to_disk`: one, or one for each split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tasks.errors import InputError

Parts = Mapping[str, Any]
"""Split -> its rows. Any: a `datasets.Dataset`, or what streams it; that package is not typed."""

_ONE, _SEVERAL = "state.json", "dataset_dict.json"


@runtime_checkable
class Rows(Protocol):
    """What is used of a `datasets.Dataset`: rows as column -> value."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Mapping[str, object]]: ...
    def __getitem__(self, index: int, /) -> Mapping[str, object]: ...


def is_saved(path: str | Path) -> bool:
    """Whether `save_to_disk` wrote the folder; `datasets.load_dataset` reads no such folder."""
    return any((Path(path) / name).is_file() for name in (_ONE, _SEVERAL))


def has_splits(path: str | Path) -> bool:
    """Whether a saved folder has its rows by split."""
    return (Path(path) / _SEVERAL).is_file()


def load(path: str | Path, *, stream: bool = False) -> Parts:
    """A saved folder as split -> its `datasets.Dataset`, or what streams it; one without splits is
    all `train`.
    """
    import datasets
    import pyarrow  # type: ignore[import-untyped]

    try:
        dataset = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: the saved dataset cannot be read ({reason})") from error
    splits = dict(dataset) if isinstance(dataset, datasets.DatasetDict) else {"train": dataset}
    return {name: rows.to_iterable_dataset() for name, rows in splits.items()} if stream else splits


def files(path: str | Path) -> tuple[Path, ...]:
    """The files of a saved folder, or the one file that the path is."""
    path = Path(path)
    if not is_saved(path):
        return (path,)
    return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
