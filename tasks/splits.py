"""Which rows belong to train, validation and test, and which of them are drawn.

A `split` column decides. Without one a row's text does: the SHA-256 of the text, modulo 10, gives
train (0-7), validation (8) or test (9). So about 80/10/10, the same on every machine; equal texts
stay together, and a file that grows moves no row from one split to another.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import get_args

from tasks.errors import CircuitsError, TooFewError
from tasks.files import Row
from tasks.named_splits import Split
from tasks.skipping import Skipped

_SPLITS: tuple[Split, ...] = get_args(Split)
_ALIASES: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def part(text: str) -> Split:
    """The split that a text belongs to by its hash.

    Args:
        text: what is hashed.

    Returns:
        "train", "validation" or "test".
    """
    digit = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
    return "train" if digit < 8 else "validation" if digit == 8 else "test"


def choose(
    rows: Sequence[Row],
    split: Split,
    text: Callable[[Row], str],
    left_out: list[Skipped] | None = None,
) -> Sequence[Row]:
    """The rows of one split, in order.

    Args:
        rows: all rows.
        split: "all" is every row.
        text: what of a row is hashed.
        left_out: takes the rows whose split cannot be told, which are refused without it.

    Returns:
        The rows of the split.
    """
    check(split)
    if split == "all":
        return rows
    named = any("split" in row.values for row in rows)
    split_rows = []
    for row in rows:
        try:
            row_split = of_row(row, text, named=named)
        except CircuitsError as error:
            if left_out is None:
                raise
            left_out.append(Skipped.of(row.source, error))
            continue
        if row_split == split:
            split_rows.append(row)
    return split_rows


def of_row(row: Row, text: Callable[[Row], str], *, named: bool | None = None) -> Split:
    """The split of one row: its `split` column, or its text by the hash.

    Args:
        row: the row.
        text: what of it is hashed.
        named: whether rows have the column; None asks this one.

    Returns:
        "train", "validation" or "test".

    Raises:
        CircuitsError: where the column names none of them.
    """
    named = "split" in row.values if named is None else named
    return _named(row) if named else part(text(row))


def check(split: object) -> Split:
    """The name of a split; anything else is refused.

    Args:
        split: what was given.

    Returns:
        The split.

    Raises:
        CircuitsError: for another value.
    """
    for name in _SPLITS:
        if name == split:
            return name
    raise CircuitsError(f"unknown split {split!r}; it is one of: {', '.join(_SPLITS)}")


def check_number(n: int | None) -> None:
    """Refuse a number of rows that is none.

    Args:
        n: how many are asked for; None is all.

    Raises:
        CircuitsError: below 1.
    """
    if n is not None and n < 1:
        raise CircuitsError(f"{n} rows asked for; it must be at least 1")


def draw(available: int, n: int | None, seed: int, where: str) -> list[int]:
    """The order in which rows are taken: a shuffle by `seed`, or the file's order.

    Args:
        available: how many rows there are.
        n: how many are asked for; None takes all in the file's order.
        seed: of the shuffle.
        where: begins the error message where there are too few.

    Returns:
        All indices; the first `n` are the sample, so that a larger `n` extends a smaller one.

    Raises:
        TooFewError: where there are fewer than `n`.
    """
    check_number(n)
    if not available:
        raise CircuitsError(
            f"{where}: no rows are in it; mark some in a column `split`, or use the split 'all'"
        )
    if n is not None and available < n:
        raise TooFewError(f"{where}: {n} rows are asked for, and there are {available}", available)
    order = list(range(available))
    if n is not None:
        random.Random(seed).shuffle(order)
    return order


def _named(row: Row) -> Split:
    name = str(row.cell("split")).strip().lower()
    if name not in _ALIASES:
        raise CircuitsError(
            f"{row.source}: {name!r} is not a split; it is one of: {', '.join(_ALIASES)}"
        )
    return _ALIASES[name]
