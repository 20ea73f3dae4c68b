"""The verb `circuits submission`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from circuits.cli import options as use
from circuits.errors import CircuitsError
from circuits.options.choices import Strategy

MIBRanking = Literal["absolute", "signed"]


def submission(
    *,
    scores: Annotated[
        list[Path], typer.Argument(help="Folders of edge scores, one for each task and model.")
    ],
    out: use.Out = Path("submission"),
    cell: Annotated[
        list[str] | None,
        typer.Option(
            help="MIB's name for task and model, ioi_gpt2; repeat in the order of the scores "
            "(default: what they say)."
        ),
    ] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(help="Write nine circuits by this strategy (default: the scores)."),
    ] = None,
    ranking: Annotated[
        MIBRanking | None,
        typer.Option(help="With --strategy: what edges are ranked by (default: absolute)."),
    ] = None,
    pt: Annotated[bool, typer.Option("--pt", help="Write .pt files in place of .json.")] = False,
) -> None:
    """Write what MIB's leaderboard takes, and check it.

    It is checked by the leaderboard's rules. One folder for each task and model, with the scores,
    or with nine circuits. What the rules find wrong is said in a line each.

    Example: circuits submission scores --cell ioi_gpt2 --out submission
    """
    from circuits.graph import EdgeScores
    from circuits.graph.submission import Cell, circuits_of_shares, submission_faults, write_cell

    use.require_writable(out)
    if cell is not None and len(cell) != len(scores):
        raise CircuitsError(f"{len(cell)} --cell for {len(scores)} folders of scores")
    if ranking is not None and strategy is None:
        raise CircuitsError("--ranking goes with --strategy; of scores MIB takes both rankings")
    read = [EdgeScores.load(path) for path in scores]
    cells = (
        [Cell.of(edge_scores.provenance) for edge_scores in read]
        if cell is None
        else map(Cell.named, cell)
    )
    for source, cell_scores, mib_cell in zip(scores, read, cells, strict=True):
        model = cell_scores.provenance.model
        if model is None:
            raise CircuitsError(f"{source}: the scores do not say their model")
        files = write_cell(
            out / mib_cell.folder,
            cell_scores
            if strategy is None
            else circuits_of_shares(cell_scores, strategy, ranking or "absolute"),
            d_model=_width(model.name),
            suffix=".pt" if pt else ".json",
        )
        use.echo_outputs(*files)
    faults = submission_faults(out)
    for fault in faults:
        typer.echo(f"not yet a submission: {fault}", err=True)
    if not faults:
        typer.echo("MIB's rules find nothing wrong")


def _width(model: str) -> int:
    from circuits.models.checkpoints import load_config

    return int(load_config(model).get_text_config().hidden_size)
