"""The application, and how errors leave it."""

from __future__ import annotations

import logging
import sys

import typer
from safetensors import SafetensorError

from circuits.cli.compare import compare
from circuits.cli.convert import convert
from circuits.cli.diff import diff
from circuits.cli.discover import discover
from circuits.cli.evaluate import evaluate
from circuits.cli.finetune import finetune
from circuits.cli.flags import with_flags
from circuits.cli.help_texts import ListingCommand
from circuits.cli.lora import lora
from circuits.cli.patch import patch
from circuits.cli.plan import plan
from circuits.cli.report import report
from circuits.cli.run import run
from circuits.cli.search import search
from circuits.cli.select import select
from circuits.cli.tasks import tasks
from circuits.errors import CircuitsError

app = typer.Typer(
    name="circuits",
    help="Which edges between heads and MLPs carry a task, how far that claim holds, and what "
    "fine-tuning changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    run,
    discover,
    select,
    evaluate,
    compare,
    convert,
    finetune,
    diff,
    lora,
    patch,
    plan,
    report,
    search,
    tasks,
):
    app.command(cls=ListingCommand if verb in (discover, plan) else None)(with_flags(verb))

_INTERRUPTED = 130  # what Typer makes of Ctrl-C
_GO_ON = ("run", "discover", "patch", "search", "finetune")


def main() -> None:
    """Run the command line.

    What a user or a disk does wrong is one line on standard error and status 2.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except (CircuitsError, OSError, SafetensorError) as error:
        typer.echo(f"circuits: {error}", err=True)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            goes_on = sys.argv[1:2] and sys.argv[1] in _GO_ON and "head-pruning" not in sys.argv
            advice = "; run again to go on" if goes_on else ""
            typer.echo(f"circuits: interrupted{advice}", err=True)
        raise
