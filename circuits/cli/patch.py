"""The verb `circuits patch`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuits.cli import options as use
from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.intervention.patching import Patching
    from tasks.pairs import PairSet

Numbers = Annotated[str | None, typer.Option(help="Which of them, as in 0-3,7; all unless told.")]


def patch(
    model: use.Model,
    task: use.TaskName,
    site: Annotated[
        str | None,
        typer.Option(
            help="resid_pre (or resid; unless told), resid_mid, resid_post, attn_out, mlp_out, z, "
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
            help="train, validation, test or all; unless told, all rows of a file or validation."
        ),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            help="denoise (clean into corrupted; sites unless told) or noise (corrupted into "
            "clean; paths unless told)."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Axes to sweep, of layer,unit,position (unit: heads or neurons); the rest is "
            "patched at once."
        ),
    ] = None,
    layers: Numbers = None,
    positions: Numbers = None,
    units: Numbers = None,
    align: Annotated[
        str, typer.Option(help="Lay prompts side by side from their start or their end.")
    ] = "start",
    mlps: Annotated[
        str, typer.Option(help="For --path: MLPs between the two nodes frozen or live.")
    ] = "frozen",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric, probability, logit or rank of the answer or of a token ('rank: Paris'); "
            "may be repeated; the task's own unless told."
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
    from circuits.intervention.patching import patch as patch_sites
    from circuits.intervention.patching import path_patch
    from circuits.provenance import describe_model, describe_pairs, versions
    from circuits.report.patching import write_patching
    from circuits.runtime.resume import PartialResults

    use.require_writable(out)
    chosen = {"layers": layers, "positions": positions, "units": units}
    places: dict[str, Any] = {name: _numbers(name, text) for name, text in chosen.items()}
    loaded = use.load_task(task, data, task_option, skip=skip_bad_rows)
    if path and (site or by or any(chosen.values())):
        raise CircuitsError("--path takes no --site, --by, --layers, --positions or --units")
    if mlps != "frozen" and not path:
        raise CircuitsError("--mlps is about paths; name one with --path")
    hooked = use.load_hooked(model, device, dtype, tokenizer)
    pairs = use.load_pairs(loaded, hooked, n, split, seed)
    performance = use.check_task(
        hooked, pairs, metric=None, required=require_accuracy, batch_size=batch_size, seed=seed
    )
    shared: dict[str, Any] = {"metrics": metric, "batch_size": batch_size, "progress": not quiet}
    with PartialResults(out / "patching.partial") as shared["resume"]:
        if path:
            found = path_patch(
                hooked, pairs, path, direction=direction or "noise", mlps=mlps, **shared
            )
        else:
            found = patch_sites(
                hooked,
                pairs,
                site or "resid_pre",
                direction=direction or "denoise",
                by=by.split(",") if by else None,
                align=align,
                **places,
                **shared,
            )
        found.details.update(
            seed=seed,
            data=describe_pairs(pairs).model_dump(mode="json"),
            model=describe_model(hooked).model_dump(mode="json"),
            versions=versions().model_dump(),
            performance=performance.to_dict(),
        )
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
    for metric in found.metrics:
        clean, corrupted = (float(ends[metric].mean()) for ends in (found.clean, found.corrupted))
        typer.echo(f"{metric} on {len(pairs)} pairs: clean {clean:.4f}, corrupted {corrupted:.4f}")
        if reason := found.undefined(metric):
            typer.echo(reason)
            continue
        if reason := found.caution(metric):
            typer.echo(f"Beware: {reason}.")
        for site, recovery in found.top(10, metric):
            typer.echo(f"{recovery:+.4f}  {site}")


def _numbers(name: str, text: str | None) -> list[int] | None:
    """0-3,7 as a list."""
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?:-(-?\d+))?\s*", part)
        if match is None:
            raise CircuitsError(f"--{name} {text!r}: write numbers and ranges, as in 0-3,7")
        first = int(match[1])
        numbers += range(first, int(match[2] or first) + 1)
    return numbers
