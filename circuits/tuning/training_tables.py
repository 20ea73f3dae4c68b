"""The training log as other programs read it: a CSV table, and TensorBoard's event files.

Both are made again from the whole log each time, so that a run which was killed and went on has
every step once.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from circuits.errors import CircuitsError
from circuits.options.choices import LogFormat
from circuits.runtime.files import atomic_path
from circuits.tuning.training_log import TrainingLog

_COLUMNS = ("loss", "token_accuracy", "learning_rate")
_VALIDATION = ("loss", "token_accuracy")


def require_writers(formats: Sequence[LogFormat]) -> None:
    """Refuse a format whose package is not there."""
    if "tensorboard" in formats and find_spec("tensorboard") is None:
        raise CircuitsError(
            "log_to tensorboard: the package tensorboard is not installed; install the extra "
            "tensorboard, or write csv"
        )


def write_tables(log: TrainingLog, folder: Path, formats: Sequence[LogFormat]) -> None:
    """Write the log in each format, in place of what was there."""
    if "csv" in formats:
        _write_csv(log, folder / "training_log.csv")
    if "tensorboard" in formats:
        _write_events(log, folder / "tensorboard")


def _write_csv(log: TrainingLog, path: Path) -> None:
    """A row for each step, with empty cells where nothing was measured."""
    steps = {entry.step: entry for entry in log.steps}
    validated = {entry.step: entry for entry in log.validation}
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["step", *_COLUMNS, *(f"validation_{name}" for name in _VALIDATION)])
        for step in sorted({*steps, *validated}):
            cells = [getattr(steps.get(step), name, "") for name in _COLUMNS]
            cells += [getattr(validated.get(step), name, "") for name in _VALIDATION]
            table.writerow([step, *cells])


def _write_events(log: TrainingLog, folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with atomic_path(folder) as temporary:
        writer = SummaryWriter(str(temporary))
        for entry in log.steps:
            for name in _COLUMNS:
                writer.add_scalar(f"training/{name}", getattr(entry, name), entry.step)
        for validation_entry in log.validation:
            for name in _VALIDATION:
                writer.add_scalar(
                    f"validation/{name}", getattr(validation_entry, name), validation_entry.step
                )
        writer.close()
