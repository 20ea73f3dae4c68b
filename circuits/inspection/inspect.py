"""Says what a path is: by its content, as names can be changed."""

from __future__ import annotations

from pathlib import Path

from circuits.errors import CircuitsError
from circuits.inspection import files, folders
from circuits.inspection.inspection import Inspection


def inspect(path: str | Path) -> Inspection:
    """Say what a file or folder is that was written here.

    Args:
        path: scores, circuits, results of any verb, pairs, a run's folder, partial work, an
            adapter, a checkpoint, or a folder of such.

    Returns:
        What it is, its version, model, task, date and size. A file of another version, or a broken
        one, is described as far as it goes, with the reason as its problem.

    Raises:
        CircuitsError: where there is no such path, or nothing was written here.
    """
    path = Path(path)
    if not path.exists():
        raise CircuitsError(f"{path}: no such file or folder")
    inspection = folders.of_folder(path) if path.is_dir() else files.of_file(path)
    if inspection is None:
        raise CircuitsError(
            f"{path}: nothing that circuits writes; it knows its results, pairs, recipes, run "
            "folders, partial work, adapters and checkpoints"
        )
    return inspection
