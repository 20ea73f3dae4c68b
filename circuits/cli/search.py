"""The verb `circuits search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use

if TYPE_CHECKING:
    from circuits.evaluation import TaskPerformance
    from circuits.models import HookedModel
    from circuits.search import HeadPruning, Search

METHODS = ("acdc", "head-pruning")


def search(
    model: use.Model,
    task: use.TaskName,
    method: Annotated[str, typer.Option(help="acdc or head-pruning.")] = "acdc",
    tau: Annotated[
        float | None,
        typer.Option(
            help="acdc: the most that a removal may change the metric; inf for any change."
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="head-pruning: the share of a layer's baseline that may be lost in the layer."
        ),
    ] = None,
    out: use.Out = Path("search"),
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
    metric: use.Metric = None,
    level: Annotated[
        str | None,
        typer.Option(help="acdc: remove edges (edge, the default), or heads and MLPs (node)."),
    ] = None,
    relative_to: Annotated[
        str | None,
        typer.Option(
            help="acdc: make tau a share of the metric before the removal (current) or of the "
            "whole model's (model). By default it is in the metric's units."
        ),
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(
            help="acdc: absolute (default: keep what changes the metric) or signed (also remove "
            "what works against the behaviour, as in the paper)."
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            help="acdc: try the edges into a reader backward (the default), forward or random."
        ),
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(
            help="What takes the place of removed parts. acdc: corrupted (the default), mean, "
            "mean-positional or zero; head-pruning: zero (the default) or mean."
        ),
    ] = None,
    evaluate_n: Annotated[
        int | None,
        typer.Option(
            help="head-pruning: how many pairs of --evaluate-split to measure the rest on.", min=1
        ),
    ] = None,
    evaluate_split: Annotated[
        str | None, typer.Option(help="head-pruning: the split for that (default: test).")
    ] = None,
    require_accuracy: use.RequireAccuracy = None,
    batch_size: use.BatchSize = None,
    tokenizer: use.Tokenizer = None,
    device: use.Device = None,
    dtype: use.Dtype = "float32",
    seed: use.Seed = 0,
    quiet: use.Quiet = False,
) -> None:
    """Search for a circuit by removing parts of the model one by one.

    Writes every trial with the metric before and after: acdc to search.json, beside circuit.json,
    and continues where it stopped when it was killed; head-pruning to heads.json.

    Examples:
    circuits search --model newsroom-gpt2 --task newsroom --n 32 --tau 0.05

    circuits search --model newsroom-gpt2 --task newsroom --n 32 --metric kl-divergence
    --criterion signed --tau 0.01 --out search-kl

    circuits search --method head-pruning --model newsroom-gpt2 --task newsroom --n 32
    --max-drop 0.02 --evaluate-n 200
    """
    from circuits.errors import CircuitsError
    from circuits.runtime.options import RunOptions, options_from
    from circuits.search import AcdcConfig, acdc, prune_heads
    from circuits.search.ablation import head_ablation

    use.require_writable(out)
    if method not in METHODS:
        raise CircuitsError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    of_acdc = {
        "tau": tau,
        "relative_to": relative_to,
        "criterion": criterion,
        "level": level,
        "order": order,
    }
    of_pruning = {
        "max_drop": max_drop,
        "evaluate_n": evaluate_n,
        "evaluate_split": evaluate_split,
    }
    for name, value in (of_pruning if method == "acdc" else of_acdc).items():
        if value is not None:
            raise CircuitsError(f"--{name.replace('_', '-')} is not an option of {method}")
    for option, value in (("--tau", tau),) if method == "acdc" else (("--max-drop", max_drop),):
        if value is None:
            raise CircuitsError(f"{method} needs {option}")
    config = None
    if method == "acdc":
        chosen = {**of_acdc, "ablation": ablation}
        given = {name: value for name, value in chosen.items() if value is not None}
        config = options_from(AcdcConfig, **given)
    loaded = use.load_task(task, data, task_option, skip=skip_bad_rows)
    hooked = use.load_hooked(model, device, dtype, tokenizer)
    pairs = use.load_pairs(loaded, hooked, n, split, seed)
    performance = use.check_task(
        hooked,
        pairs,
        metric=metric,
        required=require_accuracy,
        batch_size=batch_size,
        seed=seed,
    )
    options = RunOptions(batch_size=batch_size, seed=seed, progress=not quiet)
    use.write_skipped(out, pairs.skipped)
    if config is not None:
        found = acdc(
            hooked, pairs, config, metric=metric, options=options, resume=out / "search.json"
        )
        _write_search(found, performance, len(pairs), out)
        return
    others = None
    if evaluate_n is not None or evaluate_split is not None:
        others = use.load_pairs(loaded, hooked, evaluate_n, evaluate_split or "test", seed)
        use.warn_of_seen(others, pairs.fingerprints, "searched on")
        use.write_skipped(out, (*pairs.skipped, *others.skipped))
    pruned = prune_heads(
        hooked,
        pairs,
        max_drop or 0.0,
        metric=metric,
        ablation=head_ablation(ablation or "zero"),
        evaluate_on=others,
        options=options,
    )
    _write_pruning(pruned, performance, hooked, len(pairs), out)


def _write_search(found: Search, performance: TaskPerformance, n: int, out: Path) -> None:
    """Write what ACDC found, and say it."""
    origin = found.provenance.extended(performance=performance)
    found = found.model_copy(update={"provenance": origin})
    found.save(out / "search.json")
    found.circuit.save(out / "circuit.json")
    cost, what = found.cost, f"{found.config.level}s"
    typer.echo(
        f"{origin.metric} on {n} pairs: model {found.metric_model:.4f}, "
        f"circuit {found.metric_circuit:.4f}, no edge {found.metric_empty:.4f}"
    )
    typer.echo(
        f"{len(found.circuit)} of {found.layout.n_edges} edges stay, {len(found.nodes)} heads and "
        f"MLPs; {cost.decisions} {what} tried, {cost.untried} dropped untried"
    )
    typer.echo(
        f"{cost.runs} runs, {cost.layers_run} layers: {_compared(cost.saving)} than a whole "
        f"run for each of all {what}"
    )
    kept = sorted(
        (step for step in found.history if step.kept),
        key=lambda step: -abs(step.after - step.before),
    )
    for step in kept[:10]:
        typer.echo(f"{step.before - step.after:+.5f}  {step.name}")
    use.echo_outputs(out / "search.json", out / "circuit.json")


def _write_pruning(
    found: HeadPruning, performance: TaskPerformance, model: HookedModel, n: int, out: Path
) -> None:
    """Write what head pruning found, and say it."""
    origin = found.provenance.extended(performance=performance)
    found.model_copy(update={"provenance": origin}).save(out / "heads.json")
    attentions = model.layout.attentions
    for attention, kept, baseline in zip(attentions, found.kept, found.baselines, strict=True):
        heads = ", ".join(f"h{head}" for head in kept) or "none"
        typer.echo(f"{attention.prefix:>7}: {heads} stay; {origin.metric} was {baseline:.4f}")
    typer.echo(
        f"{len(found.heads)} of {len(found.history)} heads stay; {origin.metric} on {n} pairs: "
        f"model {found.metric_model:.4f}, pruned {found.metric_pruned:.4f}"
    )
    if found.evaluation is not None:
        seen = found.evaluation.searched_on
        which = f"pairs, {seen} of them searched on" if seen else "other pairs"
        for name, metric in found.evaluation.metrics.items():
            typer.echo(
                f"{name} on {found.evaluation.data.n} {which}: model {metric.model}, "
                f"pruned {metric.pruned}, drop {metric.drop}"
            )
    use.echo_outputs(out / "heads.json")


def _compared(saving: float) -> str:
    return f"{saving:.1f} times fewer" if saving >= 1 else f"{1 / saving:.1f} times more"
