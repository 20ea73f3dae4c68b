"""The verb `circuits explore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.flags import Given
from circuits.errors import CircuitsError
from circuits.options.choices import Count
from circuits.options.model import LoadOptions

if TYPE_CHECKING:
    from circuits.models import HookedModel
    from circuits.runs import RunFolder
    from tasks.pairs import PairSet

_PAIRS = 32


def explore(
    *,
    run: Annotated[
        Path | None, typer.Argument(help="A run folder, whose circuits are shown.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model that answers clicks (default: the run's last checkpoint)."),
    ] = None,
    loading: LoadOptions,
    task: Annotated[
        str | None, typer.Option(help="Task whose pairs circuits are measured on, without a run.")
    ] = None,
    source: Given[use.DataOptions],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[Count, typer.Option(help="Port to listen on; 0 takes a free one.")] = 0,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote",
            help="Let other machines in: whoever has the address can run the model and read all "
            "prompts, and nothing is encrypted.",
        ),
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(help="Write the run's circuits as one .html file instead of serving them."),
    ] = None,
) -> None:
    """Show circuits in a browser, where a model answers clicks.

    Click an edge to patch it in the model, and see what the model then says.

    Serves this machine alone, at an address with a token that is printed; Ctrl-C ends it.

    Example: circuits explore --model newsroom-gpt2 --task newsroom
    """
    from circuits.explorer.notebook import explore as write
    from circuits.runs import open_run

    opened = None if run is None else open_run(run)
    if page is not None:
        if opened is None:
            raise CircuitsError("--page writes a run's circuits; name the run folder")
        write(opened, path=page)
        return
    if opened is None and model is None:
        raise CircuitsError("name a run folder, or a model with --model")
    hooked, missing = _model(opened, model, loading)
    pairs, notes = _pairs(opened, hooked, task, source)
    _serve(opened, hooked, pairs, (*missing, *notes), host, port, allow_remote)


def _serve(
    run: RunFolder | None,
    model: HookedModel | None,
    pairs: PairSet | None,
    missing: tuple[str, ...],
    host: str,
    port: int,
    allow_remote: bool,
) -> None:
    """Serve until Ctrl-C."""
    from circuits.explorer.notebook import server_of

    server = server_of(
        run=run,
        model=model,
        pairs=pairs,
        missing=missing,
        host=host,
        port=port,
        allow_remote=allow_remote,
    )
    typer.echo(f"open {server.address.url}")
    server.run()


def _model(
    run: RunFolder | None, model: str | None, loading: LoadOptions
) -> tuple[HookedModel | None, list[str]]:
    """The model, or why there is none: a run is shown without one, too."""
    from circuits.provenance import source_of_other_weights

    if run is None:
        assert model is not None
        return use.load_hooked(model, loading), []
    last, scores = list(run.scores.items())[-1]
    record = scores.provenance.model
    folder = run.folder / "checkpoints" / last
    source = model or (str(folder) if folder.is_dir() else None if record is None else record.name)
    if source is None:
        return None, ["The scores do not say which model they are of; give it with --model."]
    try:
        hooked = use.load_hooked(source, loading)
    except CircuitsError as error:
        if model is not None:
            raise
        return None, [f"The model of {last} is not here, so nothing answers clicks: {error}"]
    if hooked.layout != scores.layout:
        raise CircuitsError(
            f"{source}: a model with {hooked.layout.summary}, where the run's scores are of one "
            f"with {scores.layout.summary}"
        )
    if other_model := source_of_other_weights(hooked, scores.provenance):
        return hooked, [
            f"The scores of {last} were made from {other_model}; {source} answers clicks."
        ]
    return hooked, [f"Clicks are answered by {last}."] if len(run.scores) > 1 else []


def _pairs(
    run: RunFolder | None,
    model: HookedModel | None,
    task: str | None,
    source: Given[use.DataOptions],
) -> tuple[PairSet | None, list[str]]:
    """The pairs that circuits are measured on: of the task, or those that the run was judged by."""
    from tasks.pairs import PairSet

    data_options = source.make()
    if model is None:
        return None, []
    if task is not None:
        loaded = use.load_task(task, data_options)
        limit = None if data_options.n else _PAIRS
        return use.load_pairs(loaded, model, data_options.n, None, 0, most=limit), []
    if run is None:
        return None, ["No task was named (--task), so f is of the typed pair alone."]
    file = run.folder / "pairs" / "evaluate.jsonl"
    if not file.is_file():
        return None, ["pairs/evaluate.jsonl is not in the run folder; --task makes other pairs."]
    return PairSet.load(file)[: data_options.n or _PAIRS], []
