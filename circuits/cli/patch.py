"""The verb `circuits patch`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.intervention.patching import Patching
    from tasks.pairs import PairSet

Numbers = Annotated[str | None, typer.Option(help="Which of them, as in 0-3,7 (default: all).")]


def patch(
    model: use.Model,
    task: use.TaskName,
    site: Annotated[
        str | None,
        typer.Option(
            help="resid_pre (default; or resid), resid_mid, resid_post, attn_out, mlp_out, z, "
            "q, k, v, pattern or neuron."
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            help="Patch paths instead of sites: a0.h3->a5.h1<q>, several edges joined by +; may be "
            "repeated."
        ),
    ] = None,
    out: use.Out = Path("patching"),
    data: use.Data = None,
    task_option: use.TaskOptions = None,
    skip_bad_rows: use.Skip = False,
    n: use.Number = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, validation, test or all (default: all rows of a file, or validation)."
        ),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            help="denoise (clean into corrupted, the default for sites) or noise (corrupted into "
            "clean, the default for paths)."
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Axes to sweep, as in layer,position: layer, position, and head or neuron where "
            "the site has them. Along the others everything is patched at once."
        ),
    ] = None,
    layers: Numbers = None,
    positions: Numbers = None,
    heads: Numbers = None,
    neurons: Numbers = None,
    align: Annotated[
        str, typer.Option(help="Lay prompts side by side from their start or their end.")
    ] = "start",
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
    require_accuracy: use.RequireAccuracy = None,
    batch_size: use.BatchSize = None,
    tokenizer: use.Tokenizer = None,
    device: use.Device = None,
    dtype: use.Dtype = "float32",
    seed: use.Seed = 0,
    quiet: use.Quiet = False,
) -> None:
    """Put activations of one run into another, site by site, exactly.

    Writes patching.json and patching.html, a heatmap with the tokens on the axis. Stopped half-way,
    it leaves patching.partial there, and the same command goes on from it.

    Example: circuits patch --model newsroom-gpt2 --task newsroom --n 8 --site resid --out patching
    """
    from circuits.intervention.patching import PatchSpec, path_patch
    from circuits.intervention.patching import patch as patch_sites
    from circuits.report.patching_page import write_patching
    from circuits.runtime.options import RunOptions, options_from
    from circuits.runtime.resume import PartialResults

    use.require_writable(out)
    texts = {"layers": layers, "positions": positions, "heads": heads, "neurons": neurons}
    chosen = {name: _numbers(name, text) for name, text in texts.items()}
    loaded = use.load_task(task, data, task_option, skip=skip_bad_rows)
    if path and (site or sweep or any(texts.values())):
        raise CircuitsError(
            "--path takes no --site, --sweep, --layers, --positions, --heads or --neurons"
        )
    if freeze_mlps is not None and not path:
        raise CircuitsError("--freeze-mlps is about paths; name one with --path")
    spec = options_from(
        PatchSpec,
        site=site or "resid_pre",
        direction=direction or ("noise" if path else "denoise"),
        sweep=tuple(axis.strip() for axis in sweep.split(",")) if sweep else None,
        align=align,
        **chosen,
    )
    hooked = use.load_hooked(model, device, dtype, tokenizer)
    pairs = use.load_pairs(loaded, hooked, n, split, seed)
    performance = use.check_task(
        hooked, pairs, metric=None, required=require_accuracy, batch_size=batch_size, seed=seed
    )
    options = RunOptions(batch_size=batch_size, seed=seed, progress=not quiet)
    with PartialResults(out / "patching.partial") as resume:
        if path:
            found = path_patch(
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
            found = patch_sites(hooked, pairs, spec, metrics=metric, options=options, resume=resume)
        origin = found.provenance.extended(seed=seed, performance=performance)
        found = found.model_copy(update={"provenance": origin})
        found.save(out / "patching.json")
    name = Path(model).name
    write_patching(
        found,
        out / "patching.html",
        title=f"Patching {name} on {pairs.task}",
        subtitle=f"{'paths' if path else found.site} · {found.direction} · n = {found.n}",
    )
    _say(found, pairs)
    left_out = use.write_skipped(out, pairs.skipped)
    use.echo_outputs(out / "patching.json", out / "patching.html", *left_out)


def _say(found: Patching, pairs: PairSet) -> None:
    """The unpatched runs and what matters most, by each metric."""
    from circuits.report.patching_page import doubt

    for metric in found.metrics:
        clean, corrupted = (float(ends[metric].mean()) for ends in (found.clean, found.corrupted))
        typer.echo(f"{metric} on {len(pairs)} pairs: clean {clean:.4f}, corrupted {corrupted:.4f}")
        line = doubt(found, metric)
        if found.undefined(metric):
            typer.echo(line)
            continue
        if line:
            typer.echo(f"Beware: {line}.")
        for site, recovery in found.top(10, metric):
            typer.echo(f"{recovery:+.4f}  {site}")


def _numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    """The numbers of a text such as 0-3,7."""
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?:-(-?\d+))?\s*", part)
        if match is None:
            raise CircuitsError(f"--{name} {text!r}: write numbers and ranges, as in 0-3,7")
        first = int(match[1])
        numbers += range(first, int(match[2] or first) + 1)
    return tuple(numbers)
