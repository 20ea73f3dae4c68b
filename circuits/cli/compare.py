"""The verb `circuits compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli import options as use


def compare(
    scores: Annotated[
        list[Path],
        typer.Argument(help="Score files of the checkpoints, in order, kept --per-example."),
    ],
    out: use.Out = Path("evolution"),
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=100)] = 1000,
    seed: use.Seed = 0,
) -> None:
    """Say what changed between checkpoints.

    Edges, nodes, and which of the two; each beside its noise ceiling.

    Example: circuits compare runs/quickstart/scores/*.safetensors --out evolution
    """
    from circuits.evolution import compare as compare_scores
    from circuits.files import write_json
    from circuits.graph import EdgeScores

    names = [path.stem if path.stem != "scores" else path.parent.name for path in scores]
    loaded = [EdgeScores.load(path) for path in scores]
    evolution = compare_scores(loaded, names=names, n_bootstrap=resamples, seed=seed)
    write_json(out / "evolution.json", evolution.to_dict())
    typer.echo(evolution.paragraph())
    use.wrote(out / "evolution.json")
