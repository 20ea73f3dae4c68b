"""Where articles and their summaries come from: a local file, or a dataset of the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tasks import hub, splits
from tasks.errors import InputError
from tasks.files import Row, read_rows
from tasks.named_splits import Split
from tasks.saved import Parts
from tasks.skipping import Skipped

_ARTICLE_COLUMNS = ("article", "document", "dialogue")
_SUMMARY_COLUMNS = ("highlights", "summary")


class KnownDataset(NamedTuple):
    """How a dataset is called on the hub. A repository that still holds a loading script, which
    `datasets` no longer runs, is read from its Parquet conversion.
    """

    hub_id: str
    config: str | None
    revision: str | None
    article: str
    summary: str


KNOWN_DATASETS = {
    "cnn_dailymail": KnownDataset("abisee/cnn_dailymail", "3.0.0", None, "article", "highlights"),
    "xsum": KnownDataset("EdinburghNLP/xsum", None, "refs/convert/parquet", "document", "summary"),
    "multi_news": KnownDataset(
        "alexfabbri/multi_news", None, "refs/convert/parquet", "document", "summary"
    ),
    "samsum": KnownDataset("knkarthick/samsum", None, None, "dialogue", "summary"),
}


@dataclass(frozen=True)
class Article:
    """An article and its summary, both stripped of outer whitespace."""

    source: str
    text: str
    summary: str


@dataclass(frozen=True)
class Articles:
    """Rows read as articles, one by one when asked for.

    left_out: rows that cannot be read, or whose split cannot be told.
    """

    rows: Sequence[Row]
    article_column: str
    summary_column: str
    left_out: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Article:
        row = self.rows[index]
        return Article(row.source, row.text(self.article_column), row.text(self.summary_column))


def from_file(
    path: str | Path, split: Split, article: str | None, summary: str | None, *, skip: bool = False
) -> Articles:
    """The articles of one split of a local file; `skip` leaves out rows that cannot be read or
    whose split cannot be told, which are refused without it.
    """
    left_out: list[Skipped] | None = [] if skip else None
    rows = read_rows(path, left_out)
    article, summary = article_column(rows[0], article), summary_column(rows[0], summary)
    split_rows = splits.choose(rows, split, lambda row: row.text(article), left_out)
    return Articles(split_rows, article, summary, tuple(left_out or ()))


def from_dataset(
    name: str,
    split: Split,
    article: str | None,
    summary: str | None,
    *,
    config: str | None = None,
) -> Articles:
    """The articles of one split of a dataset: a name of `KNOWN_DATASETS` or its hub id, or anything
    else that `datasets.load_dataset` takes (a hub id, a local folder of files), or a
    folder that `save_to_disk` wrote. "all" is all its
    splits. `config` is one of a dataset's configurations; a known dataset has one of its own.
    """
    splits.check(split)
    entry = known_dataset(name)
    dataset = load_dataset(name, config)
    rows = hub.rows_of_split(name, dataset, split)
    if entry is not None:
        article, summary = article or entry.article, summary or entry.summary
    return Articles(rows, article_column(rows[0], article), summary_column(rows[0], summary))


def article_column(row: Row, given: str | None) -> str:
    """The column of articles: the one that is given, or that has a usual name."""
    return given or _column(row, _ARTICLE_COLUMNS, "article")


def summary_column(row: Row, given: str | None) -> str:
    """The column of summaries: the one that is given, or that has a usual name."""
    return given or _column(row, _SUMMARY_COLUMNS, "summary")


def local_files(name: str) -> tuple[Path, ...]:
    """The files of a dataset that `from_dataset` reads from a local folder, else none."""
    if known_dataset(name):
        return ()
    return tuple(sorted(path for path in Path(name).rglob("*") if path.is_file()))


def known_dataset(name: str) -> KnownDataset | None:
    """What is known of a dataset by its short name, or by its id on the hub."""
    if name in KNOWN_DATASETS:
        return KNOWN_DATASETS[name]
    if Path(name).exists():
        return None
    ids = {entry.hub_id.lower(): entry for entry in KNOWN_DATASETS.values()}
    return ids.get(name.lower())


def load_dataset(name: str, config: str | None, *, stream: bool = False) -> Parts:
    """A dataset as split -> rows: known ones by their hub id, and a folder that `save_to_disk`
    wrote. stream: rows that come when they are gone through, without a number.
    """
    entry = known_dataset(name)
    hub_id, known_config, revision = entry[:3] if entry else (None, None, None)
    return hub.load_parts(
        name,
        config or known_config,
        hub_id=hub_id,
        revision=revision,
        stream=stream,
        hint=f"known names: {', '.join(KNOWN_DATASETS)}. ",
    )


def _column(row: Row, names: tuple[str, ...], kind: str) -> str:
    for name in names:
        if name in row.values:
            return name
    raise InputError(
        f"{row.source}: no column {' or '.join(map(repr, names))}; the row's columns are: "
        f"{', '.join(map(repr, row.values)) or 'none'}; name the right one with `{kind}_column`"
    )
