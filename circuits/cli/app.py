"""The application, and how errors leave it."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from safetensors import SafetensorError

from circuits import __version__
from circuits.cli.benchmark import benchmark
from circuits.cli.compare import compare
from circuits.cli.convert import convert
from circuits.cli.diff import diff
from circuits.cli.discover import discover
from circuits.cli.doctor import doctor
from circuits.cli.ensemble import ensemble
from circuits.cli.evaluate import evaluate
from circuits.cli.explore import explore
from circuits.cli.export import export
from circuits.cli.finetune import finetune
from circuits.cli.flags import with_flags
from circuits.cli.help_texts import ListingCommand
from circuits.cli.inspect import inspect
from circuits.cli.learn import learn
from circuits.cli.lora import lora
from circuits.cli.patch import patch
from circuits.cli.plan import plan
from circuits.cli.report import report
from circuits.cli.run import run
from circuits.cli.search import search
from circuits.cli.select import select
from circuits.cli.submission import submission
from circuits.cli.tasks import tasks
from circuits.errors import CircuitsError

app = typer.Typer(
    name="circuits",
    help="Which edges between heads and MLPs carry a task, how far that claim holds, and what "
    "fine-tuning changed.",
    epilog="First steps: `circuits doctor` tries the installation, `circuits run quickstart` does "
    "everything once on a small model. `circuits COMMAND --help` shows an example of each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_LONG = (
    *(run, discover, learn, ensemble, evaluate, benchmark, compare, finetune, diff, export, patch),
    search,
)
for verb in (
    run,
    discover,
    select,
    learn,
    ensemble,
    evaluate,
    benchmark,
    compare,
    convert,
    submission,
    export,
    finetune,
    diff,
    explore,
    lora,
    patch,
    plan,
    report,
    search,
    tasks,
    inspect,
    doctor,
):
    listing = ListingCommand if verb in (discover, plan) else None
    app.command(cls=listing)(with_flags(verb, tell_time=verb in _LONG))


def _say_version(asked: bool) -> bool:
    if asked:
        typer.echo(f"circuits {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say the version.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Options before any verb; Typer reads them from here."""
    del version  # its callback has said it


_INTERRUPTED = 130  # what Typer makes of Ctrl-C
_GO_ON = {
    *("run", "discover", "learn", "evaluate", "compare", "diff", "patch", "search", "finetune"),
}
"""Verbs that leave what they did, and go on from it."""


def main() -> None:
    """Run the command line.

    What a user or a disk does wrong is one line on standard error and status 2.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("huggingface_hub").propagate = False  # its own handler says it once
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
