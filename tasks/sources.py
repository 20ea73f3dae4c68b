"""Where a task's rows come from: a local file or folder, or a dataset of the hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tasks import hub, saved, splits
from tasks.errors import InputError
from tasks.files import Row, read_rows
from tasks.named_splits import Split
from tasks.skipping import Skipped


@dataclass(frozen=True)
class Source:
    """Rows by split, read once.

    Attributes:
        place: a file, a folder that `save_to_disk` wrote, any other folder of data files, or an id
            of the hub.
        config: one of the dataset's configurations, where it has several.
        revision: of the hub's repository.
        skip: leave out rows of a file that cannot be read, and list them in `unread`.
        unread: takes them.
    """

    place: str
    config: str | None = None
    revision: str | None = None
    skip: bool = False
    unread: list[Skipped] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        task: str,
        path: str | Path | None,
        dataset: str | None,
        config: str | None = None,
        revision: str | None = None,
        *,
        skip: bool = False,
    ) -> Source:
        """What the options of a task name.

        Args:
            task: the task's name, for messages.
            path: a local file or folder.
            dataset: an id of the hub, in place of a path.
            config: one of the dataset's configurations.
            revision: of the hub's repository.
            skip: leave out rows that cannot be read.

        Returns:
            The source; nothing is read yet.

        Raises:
            InputError: where both or neither are given, or the path is not there.
        """
        if (path is None) == (dataset is None):
            raise InputError(
                f"{task}: give either path= (a local file or folder; --data) or dataset= (an id of "
                "the hub)"
            )
        if path is None:
            return cls(str(dataset), config, revision, skip)
        if revision is not None:
            raise InputError(f"{task}: revision: a local file has none; it goes with dataset")
        if not Path(path).exists():
            raise InputError(f"{path}: no such file or folder")
        return cls(str(path), config, None, skip)

    @property
    def files(self) -> tuple[Path, ...]:
        """The local files that are read; none of a dataset of the hub."""
        path = Path(self.place)
        if path.is_dir():
            return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
        return (path,) if path.is_file() else ()

    def rows(
        self, split: Split, text: Callable[[Row], str] | None, left_out: list[Skipped] | None = None
    ) -> Sequence[Row]:
        """The rows of one split, in order.

        Args:
            split: which one; "all" is every row.
            text: what of a row says its split by a hash, where a file has no column `split`; None
                refuses such a file, unless all rows are asked for.
            left_out: takes rows whose split cannot be told, which are refused without it.

        Returns:
            The rows.

        Raises:
            InputError: where there is no such split, or none can be told.
        """
        if self._file is None:
            return hub.rows_of_split(self.place, self._parts, split)
        rows = self._file
        if text is None and split != "all" and not any("split" in row.values for row in rows):
            raise InputError(
                f"{Path(self.place).name}: it has no column `split`, so which rows are "
                f"{split!r} is not known; add the column, take the whole dataset (a folder), or "
                "ask for the split 'all'"
            )
        return splits.choose(rows, split, text or (lambda row: row.source), left_out)

    @cached_property
    def _file(self) -> list[Row] | None:
        """All rows of a file or of a saved dataset; None of what `datasets` has to load."""
        if Path(self.place).is_file() or saved.is_saved(self.place):
            return read_rows(self.place, self.unread if self.skip else None)
        return None

    @cached_property
    def _parts(self) -> dict[str, saved.Rows]:
        dataset = hub.load_parts(self.place, self.config, revision=self.revision)
        return {str(name): rows for name, rows in dataset.items()}
