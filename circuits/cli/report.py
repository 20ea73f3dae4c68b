"""The verb `circuits report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli import options as use


def report(
    folder: Annotated[Path, typer.Argument(help="A run folder that `circuits run` wrote.")],
) -> None:
    """Make a run's report.html again.

    Example: circuits report runs/quickstart
    """
    from circuits.errors import CircuitsError
    from circuits.report import write_report

    if not (folder / "recipe.yaml").is_file():
        raise CircuitsError(
            f"{folder}: no run folder (it holds no recipe.yaml); make one with `circuits run`"
        )
    use.echo_outputs(write_report(folder))
