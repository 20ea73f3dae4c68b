"""The verb `circuits patch`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.flags import Given, Without
from circuits.errors import CircuitsError
from circuits.options.attribution import MetricOptions
from circuits.options.model import ModelOptions
from circuits.options.patching import PatchSpec

if TYPE_CHECKING:
    from circuits.intervention.patching import Patching
    from tasks.pairs import PairSet


def patch(
    *,
    model: ModelOptions,
    source: use.TaskOptions,
    flags: Given[PatchSpec],
    path: Annotated[
        list[str] | None,
        typer.Option(
            help="Patch paths instead of sites: a0.h3->a5.h1<q>, several edges joined by +; may be "
            "repeated."
        ),
    ] = None,
    out: use.Out = Path("patching"),
    freeze_mlps: Annotated[
        bool | None,
        typer.Option(
            "--freeze-mlps/--no-freeze-mlps",
            help="For --path: keep the output of MLPs between the two nodes (the default), or "
            "recompute it.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric, probability, logit or rank of the answer or of a token ('rank: Paris'); "
            "may be repeated (default: the task's own)."
        ),
    ] = None,
    judged: Annotated[MetricOptions, Without("metric")],
    run: use.Run,
    engine: use.Engine,
    quiet: use.Quiet = False,
) -> None:
    """Patch activations or paths, and measure what it does.

    Activations of one run are put into another, site by site; nothing is estimated. Writes
    patching.json and patching.html, a heatmap with the tokens on the axis. Stopped half-way, it
    leaves patching.partial there, and the same command goes on from it.

    Example: circuits patch --model newsroom-gpt2 --task newsroom --n 8 --site resid --out patching
    """
    from circuits.intervention.patching import patch as patch_sites
    from circuits.intervention.patching import path_patch
    from circuits.report.patching_page import write_patching
    from circuits.runtime.resume import PartialResults

    run = replace(run, engine=use.engine_of(engine))
    use.require_writable(out)
    loaded = use.load_task(source.task, source)
    if path and {*flags.values} - {"direction", "align"}:
        raise CircuitsError(
            "--path takes no --site, --sweep, --layers, --positions, --heads or --neurons"
        )
    if freeze_mlps is not None and not path:
        raise CircuitsError("--freeze-mlps is about paths; name one with --path")
    spec = PatchSpec(direction="noise") if path else PatchSpec()
    spec = flags.make(direction=flags.values.get("direction", spec.direction))
    hooked = use.load_hooked(model.model, model)
    pairs = use.load_pairs(loaded, hooked, source.n, source.split, run.seed)
    performance = use.check_task(
        hooked, pairs, metric=None, required=judged.require_accuracy, run=run
    )
    options = use.running(run, quiet)
    with PartialResults(out / "patching.partial") as resume:
        if path:
            patching = path_patch(
                hooked,
                pairs,
                path,
                direction=spec.direction,
                freeze_mlps=freeze_mlps is not False,
                metrics=metric,
                options=options,
                resume=resume,
            )
        else:
            patching = patch_sites(
                hooked, pairs, spec, metrics=metric, options=options, resume=resume
            )
        origin = patching.provenance.extended(seed=run.seed, performance=performance)
        patching = patching.model_copy(update={"provenance": origin})
        patching.save(out / "patching.json")
    name = Path(model.model).name
    write_patching(
        patching,
        out / "patching.html",
        title=f"Patching {name} on {pairs.task}",
        subtitle=f"{'paths' if path else patching.site} · {patching.direction} · n = {patching.n}",
    )
    _say(patching, pairs)
    left_out = use.write_skipped(out, pairs.skipped)
    use.echo_outputs(out / "patching.json", out / "patching.html", *left_out)


def _say(patching: Patching, pairs: PairSet) -> None:
    """The unpatched runs and what matters most, by each metric."""
    from circuits.report.patching_page import doubt

    for metric in patching.metrics:
        clean, corrupted = (
            float(metric_values[metric].mean())
            for metric_values in (patching.clean, patching.corrupted)
        )
        typer.echo(f"{metric} on {len(pairs)} pairs: clean {clean:.4f}, corrupted {corrupted:.4f}")
        line = doubt(patching, metric)
        if patching.undefined(metric):
            typer.echo(line)
            continue
        if line:
            typer.echo(f"Beware: {line}.")
        for site, recovery in patching.top(10, metric):
            typer.echo(f"{recovery:+.4f}  {site}")
