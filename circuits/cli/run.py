"""The verb `circuits run`."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from circuits.cli.completion import recipes
from circuits.cli.flags import Without
from circuits.cli.options import (
    AsOnePlainModel,
    Engine,
    Quiet,
    echo_outputs,
    engine_of,
    silence_libraries,
)
from circuits.options.model import LoadOptions


def run(
    recipe: Annotated[
        str,
        typer.Argument(help=f"A recipe of the package ({', '.join(recipes())}), or a YAML file."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder (default: runs/<recipe's name>).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a key of the recipe, as in lora.steps=20; may be repeated.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    *,
    loading: Annotated[LoadOptions, Without("device", *AsOnePlainModel.names)],
    engine: Engine,
    quiet: Quiet = False,
) -> None:
    """Do everything in a recipe, from pairs to report.

    If it is stopped, the same command goes on where it was.

    Example: circuits run quickstart
    """
    from circuits.pipeline import load_recipe
    from circuits.pipeline import run as run_pipeline

    ray_engine = engine_of(engine)
    silence_libraries()
    logging.getLogger("circuits.pipeline").setLevel(logging.INFO)
    resolved = load_recipe(
        recipe,
        [
            *(overrides or []),
            *([] if loading.tokenizer is None else [f"tokenizer={loading.tokenizer}"]),
        ],
    )
    if ray_engine is not None:
        resolved = replace(resolved, engine=ray_engine)
    echo_outputs(run_pipeline(resolved, out or Path("runs", resolved.name), progress=not quiet))
