"""The verb `circuits search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from circuits.cli import options as use
from circuits.cli.flags import Given, Label
from circuits.options.attribution import MetricOptions
from circuits.options.model import ModelOptions
from circuits.options.search import AcdcConfig, HeadPruningConfig
from tasks.named_splits import Split

if TYPE_CHECKING:
    from circuits.evaluation import TaskPerformance
    from circuits.models import HookedModel
    from circuits.search import HeadPruning, Search

SearchMethod = Literal["acdc", "head-pruning"]


def search(
    *,
    model: ModelOptions,
    source: use.TaskOptions,
    method: Annotated[SearchMethod, typer.Option(help="How parts are removed.")] = "acdc",
    of_acdc: Annotated[Given[AcdcConfig], Label("acdc")],
    of_pruning: Annotated[Given[HeadPruningConfig], Label("head-pruning")],
    out: use.Out = Path("search"),
    evaluate_n: Annotated[
        int | None,
        typer.Option(
            help="head-pruning: how many pairs of --evaluate-split to measure the rest on.", min=1
        ),
    ] = None,
    evaluate_split: Annotated[
        Split | None, typer.Option(help="head-pruning: the split for that (default: test).")
    ] = None,
    judged: MetricOptions,
    run: use.Run,
    quiet: use.Quiet = False,
) -> None:
    """Search for a circuit: remove edges, nodes or heads in turn.

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
    from circuits.search import acdc, prune_heads

    use.require_writable(out)
    method_options, other_options = (
        (of_acdc, of_pruning) if method == "acdc" else (of_pruning, of_acdc)
    )
    foreign_options = {*other_options.values} - {*method_options.values}
    if method == "acdc":
        evaluating = {"evaluate_n": evaluate_n, "evaluate_split": evaluate_split}
        foreign_options |= {name for name, value in evaluating.items() if value is not None}
    for name in sorted(foreign_options):
        raise CircuitsError(f"--{name.replace('_', '-')} is not an option of {method}")
    required = "tau" if method == "acdc" else "max_drop"
    if required not in method_options.values:
        raise CircuitsError(f"{method} needs --{required.replace('_', '-')}")
    config = method_options.make()
    loaded = use.load_task(source.task, source)
    hooked = use.load_hooked(model.model, model)
    pairs = use.load_pairs(loaded, hooked, source.n, source.split, run.seed)
    performance = use.check_task(
        hooked,
        pairs,
        metric=judged.metric,
        required=judged.require_accuracy,
        run=run,
    )
    options = use.running(run, quiet)
    use.write_skipped(out, pairs.skipped)
    if isinstance(config, AcdcConfig):
        acdc_search = acdc(
            hooked, pairs, config, metric=judged.metric, options=options, resume=out / "search.json"
        )
        _write_search(acdc_search, performance, len(pairs), out)
        return
    unseen = None
    if evaluate_n is not None or evaluate_split is not None:
        unseen = use.load_pairs(loaded, hooked, evaluate_n, evaluate_split or "test", run.seed)
        use.warn_of_seen(unseen, pairs.fingerprints, "searched on")
        use.write_skipped(out, (*pairs.skipped, *unseen.skipped))
    pruned = prune_heads(
        hooked,
        pairs,
        config,
        metric=judged.metric,
        evaluate_on=unseen,
        options=options,
    )
    _write_pruning(pruned, performance, hooked, len(pairs), out)


def _write_search(acdc_search: Search, performance: TaskPerformance, n: int, out: Path) -> None:
    """Write what ACDC found, and say it."""
    origin = acdc_search.provenance.extended(performance=performance)
    acdc_search = acdc_search.model_copy(update={"provenance": origin})
    acdc_search.save(out / "search.json")
    acdc_search.circuit.save(out / "circuit.json")
    cost, units = acdc_search.cost, f"{acdc_search.config.level}s"
    typer.echo(
        f"{origin.metric} on {n} pairs: model {acdc_search.metric_model:.4f}, "
        f"circuit {acdc_search.metric_circuit:.4f}, no edge {acdc_search.metric_empty:.4f}"
    )
    typer.echo(
        f"{len(acdc_search.circuit)} of {acdc_search.layout.n_edges} edges stay, "
        f"{len(acdc_search.nodes)} heads and MLPs; {cost.decisions} {units} tried, {cost.untried} "
        "dropped untried"
    )
    typer.echo(
        f"{cost.runs} runs, {cost.layers_run} layers: {_compared(cost.saving)} than a whole "
        f"run for each of all {units}"
    )
    kept_steps = sorted(
        (step for step in acdc_search.history if step.kept),
        key=lambda step: -abs(step.after - step.before),
    )
    for step in kept_steps[:10]:
        typer.echo(f"{step.before - step.after:+.5f}  {step.name}")
    use.echo_outputs(out / "search.json", out / "circuit.json")


def _write_pruning(
    pruning: HeadPruning, performance: TaskPerformance, model: HookedModel, n: int, out: Path
) -> None:
    """Write what head pruning found, and say it."""
    origin = pruning.provenance.extended(performance=performance)
    pruning.model_copy(update={"provenance": origin}).save(out / "heads.json")
    attentions = model.layout.attentions
    for attention, kept_heads, baseline in zip(
        attentions, pruning.kept, pruning.baselines, strict=True
    ):
        heads = ", ".join(f"h{head}" for head in kept_heads) or "none"
        typer.echo(f"{attention.prefix:>7}: {heads} stay; {origin.metric} was {baseline:.4f}")
    typer.echo(
        f"{len(pruning.heads)} of {len(pruning.history)} heads stay; {origin.metric} on {n} pairs: "
        f"model {pruning.metric_model:.4f}, pruned {pruning.metric_pruned:.4f}"
    )
    if pruning.evaluation is not None:
        n_searched = pruning.evaluation.searched_on
        sample = f"pairs, {n_searched} of them searched on" if n_searched else "other pairs"
        for name, metric in pruning.evaluation.metrics.items():
            typer.echo(
                f"{name} on {pruning.evaluation.data.n} {sample}: model {metric.model}, "
                f"pruned {metric.pruned}, drop {metric.drop}"
            )
    use.echo_outputs(out / "heads.json")


def _compared(saving: float) -> str:
    return f"{saving:.1f} times fewer" if saving >= 1 else f"{1 / saving:.1f} times more"
