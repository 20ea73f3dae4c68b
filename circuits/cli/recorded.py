"""What a verb is not told, and the scores that it is given say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.cli.options import DataOptions
    from circuits.graph import Provenance


def recorded_source(source: DataOptions, made_from: Provenance) -> DataOptions:
    """The source of the scores' own pairs, where the command line names no other."""
    recorded = made_from.task
    if recorded is None:
        return source
    return replace(
        source,
        data=source.data or (None if recorded.data is None else Path(recorded.data)),
        task_option=source.task_option or list(recorded.options),
    )


def known(given: str | None, recorded: str | None, option: str) -> str:
    """What was asked for, or what the scores' file says they were made with."""
    value = given or recorded
    if not value:
        raise CircuitsError(f"the scores do not say what they were made with; give {option}")
    return value
