"""The verb `circuits doctor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON, for a bug report.")
    ] = False,
) -> None:
    """Look over the installation, and try it on the embedded model.

    Tells Python, packages and their conflicts, optional parts, device, memory, disk and the hub's
    cache, a line each, and takes about ten seconds. Ends with status 1 where something must be
    mended.

    Example: circuits doctor
    """
    from circuits.cli.options import silence_libraries
    from circuits.doctor import diagnose

    silence_libraries()
    diagnosis = diagnose()
    if as_json:
        typer.echo(json.dumps(diagnosis.to_json(), indent=1, ensure_ascii=False))
    else:
        for line in diagnosis.lines():
            typer.echo(line)
    raise typer.Exit(1 if diagnosis.failed else 0)
