"""The verb `circuits inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    path: Annotated[Path, typer.Argument(help="A file or folder that was written here.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what a file or folder is.

    Scores, circuits, evaluations and other results, pairs, recipes, runs, partial work, adapters
    and checkpoints: what it is, its schema version, model, task, date and sizes. What is broken or
    of another version is told as far as it goes, with status 1.

    Example: circuits inspect runs/quickstart
    """
    from circuits.inspection import inspect as inspected

    inspection = inspected(path)
    if as_json:
        typer.echo(json.dumps(inspection.to_json(), indent=1, ensure_ascii=False))
    else:
        for line in inspection.lines():
            typer.echo(line)
    if inspection.problem is not None:
        raise typer.Exit(1)
