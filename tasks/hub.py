"""Datasets as `datasets.load_dataset` takes them: an id of the hub, or a local folder of files; and
folders that `save_to_disk` wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from tasks import saved, splits
from tasks.errors import InputError
from tasks.files import Row
from tasks.named_splits import Split


def load_parts(
    name: str,
    config: str | None = None,
    *,
    hub_id: str | None = None,
    revision: str | None = None,
    stream: bool = False,
    hint: str = "",
) -> saved.Parts:
    """A dataset as split -> rows.

    Args:
        name: what was asked for, which messages name.
        config: one of the dataset's configurations.
        hub_id: its id on the hub, where that is another than `name`.
        revision: of the hub's repository.
        stream: give rows that come when they are gone through, without a number.
        hint: said where it cannot be loaded.

    Returns:
        The parts by their names.

    Raises:
        InputError: in one line, where it cannot be loaded.
    """
    import datasets

    location = hub_id or name
    if hub_id is None and saved.is_saved(name):
        return saved.load(name, stream=stream)
    if location.startswith((".", "/", "~")) and not Path(location).exists():
        raise InputError(f"dataset {name!r}: no such folder")
    try:
        dataset: saved.Parts = datasets.load_dataset(
            location, config, revision=revision, **({"streaming": True} if stream else {})
        )
        return dataset
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        while isinstance(error, datasets.exceptions.DatasetGenerationError) and error.__cause__:
            error = error.__cause__  # which says no more than that there was one
        lines = (str(error).strip() or type(error).__name__).splitlines()
        if "config" in lines[0].lower():  # it has several, and the second line names them
            raise InputError(
                f"dataset {name!r}: {' '.join(lines[:2])}; name one with the option `config`"
            ) from error
        if Path(location).exists():
            raise InputError(
                f"dataset {name!r}: the local folder cannot be read ({lines[0]}); give one of its "
                "files as `path`, where rows that cannot be read are named, or left out by `skip`"
            ) from error
        id_hint = "" if "/" in location else "an id of the hub is written namespace/name; "
        raise InputError(
            f"dataset {name!r} cannot be loaded ({lines[0]}); {id_hint}{hint}Without a network, "
            "download it first or give a local file as `path`"
        ) from error


def require_split(name: str, loaded: Mapping[str, object], split: Split) -> None:
    """Refuse a split that a dataset has not, unless all are asked for.

    Args:
        name: of the dataset.
        loaded: its parts.
        split: which one.

    Raises:
        InputError: with those that there are.
    """
    if split != "all" and split not in loaded:
        raise InputError(
            f"dataset {name!r} has no split {split!r}; it has: {', '.join(map(str, loaded))}"
        )


def rows_of_split(name: str, loaded: saved.Parts, split: Split) -> Sequence[Row]:
    """The rows of one split, read when asked for.

    Args:
        name: of the dataset; rows are named by it.
        loaded: its parts.
        split: which one; "all" is all of them, one after the other.

    Returns:
        At least one row.

    Raises:
        InputError: where there is no such split, or no row in it.
    """
    splits.check(split)
    require_split(name, loaded, split)
    split_names = [str(split_name) for split_name in loaded] if split == "all" else [split]
    rows = _DatasetRows(name, tuple((split_name, loaded[split_name]) for split_name in split_names))
    if not rows:
        raise InputError(f"dataset {name!r}: split {split!r} has no rows")
    return rows


@dataclass(frozen=True)
class _DatasetRows(Sequence[Row]):
    """The rows of a `datasets.Dataset`, or of several one after the other, read when asked for."""

    name: str
    parts: tuple[tuple[str, saved.Rows], ...]

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.parts)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        for split, rows in self.parts:
            if 0 <= index < len(rows):
                return Row(f"{self.name}, {split} row {index + 1}", rows[index])
            index -= len(rows)
        raise IndexError(index)
