"""Cells of MIB's rows, which hold others: `metadata.subject`, the label of the right choice."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.errors import InputError
from tasks.files import Row


def cell(row: Row, name: str) -> object:
    """A value within a row.

    Args:
        row: the row.
        name: the cell, and what stands in it, with dots: "metadata.subject".

    Returns:
        The value.

    Raises:
        InputError: where there is none, with what there is instead.
    """
    column, *inner = name.split(".")
    value = row.cell(column)
    for depth, key in enumerate(inner, start=1):
        outer_path = ".".join([column, *inner[: depth - 1]])
        if not isinstance(value, Mapping):
            raise InputError(
                f"{row.source}: {outer_path!r} holds {type(value).__name__}, not named values; is "
                "the file a copy of MIB's data set?"
            )
        if value.get(key) is None:
            keys = ", ".join(map(repr, value)) or "none"
            raise InputError(f"{row.source}: no value {key!r} in {outer_path!r}; it has: {keys}")
        value = value[key]
    return value


def text(row: Row, name: str) -> str:
    """A text within a row, as it stands.

    Args:
        row: the row.
        name: as for `cell`.

    Returns:
        The text.

    Raises:
        InputError: where it is none, or blank.
    """
    value = cell(row, name)
    if not isinstance(value, str) or not value.strip():
        problem = (
            "is blank" if isinstance(value, str) else f"holds {type(value).__name__}, not text"
        )
        raise InputError(f"{row.source}: {name!r} {problem}")
    return value


def word(row: Row, name: str) -> str:
    """A text or a whole number within a row, as text: labels are both.

    Args:
        row: the row.
        name: as for `cell`.

    Returns:
        The text.

    Raises:
        InputError: for anything else.
    """
    value = cell(row, name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text(row, name)


def right_label(row: Row, within: str = "") -> str:
    """The label of the right choice: `choices.label[answerKey]`.

    Args:
        row: the row.
        within: a counterfactual's column, whose own choices are meant.

    Returns:
        The label as text; MIB's are letters in the prompts and numbers in the counterfactuals.

    Raises:
        InputError: where the key points at no choice.
    """
    prefix = f"{within}." if within else ""
    choices, key = cell(row, f"{prefix}choices"), cell(row, f"{prefix}answerKey")
    if isinstance(choices, Mapping):
        labels = choices.get("label")
    elif isinstance(choices, list):  # as newer versions of `datasets` write such columns
        labels = [
            choice.get("label") if isinstance(choice, Mapping) else None for choice in choices
        ]
    else:
        labels = None
    if not isinstance(labels, list):
        raise InputError(f"{row.source}: '{prefix}choices' holds no labels")
    if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key < len(labels):
        raise InputError(
            f"{row.source}: '{prefix}answerKey' is {key!r}, where there are {len(labels)} choices, "
            "counted from 0"
        )
    label = labels[key]
    if isinstance(label, bool) or not isinstance(label, str | int) or not str(label).strip():
        raise InputError(f"{row.source}: the right label of '{prefix}choices' is {label!r}")
    return str(label)
