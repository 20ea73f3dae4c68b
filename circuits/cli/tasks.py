"""The verb `circuits tasks`."""

from __future__ import annotations

import inspect
import textwrap
from typing import Annotated

import typer


def tasks(
    name: Annotated[str | None, typer.Argument(help="A task, to see its options.")] = None,
) -> None:
    """List the tasks, or one task's options.

    Example: circuits tasks summarization
    """
    import tasks as known
    from tasks.registry import meanings

    if name is None:
        for task_name in known.names():
            typer.echo(f"{task_name:<14} {known.describe(task_name)}")
        return
    typer.echo(known.describe(name))
    descriptions = meanings(name)
    for option, default in known.options(name).items():
        required = default is inspect.Parameter.empty
        typer.echo(f"  {option:<20} {'(must be given)' if required else repr(default)}")
        for line in textwrap.wrap(descriptions[option], 90):
            typer.echo(f"      {line}")
