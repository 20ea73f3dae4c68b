"""The verb `circuits search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuits.cli import options as use

if TYPE_CHECKING:
    from circuits.models import HookedModel
    from tasks.pairs import PairSet

METHODS = ("acdc", "head-pruning")


def search(
    model: use.Model,
    task: use.TaskName,
    threshold: Annotated[
        float,
        typer.Option(
            help="acdc: the most that a removal may change the metric, inf for any. head-pruning: "
            "the share of a layer's baseline that may be lost in the layer."
        ),
    ],
    method: Annotated[str, typer.Option(help="acdc or head-pruning.")] = "acdc",
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
    nodes: Annotated[
        bool, typer.Option("--nodes", help="acdc: remove whole heads and MLPs, not edges.")
    ] = False,
    relative_to: Annotated[
        str | None,
        typer.Option(
            help="acdc: make the threshold a share of the metric before the removal (current) or "
            "of the whole model's (model). By default it is in the metric's units."
        ),
    ] = None,
    change: Annotated[
        str | None,
        typer.Option(
            help="acdc: absolute (default: keep what changes the metric) or fall (also remove what "
            "works against the behaviour, as in the paper)."
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            help="acdc: try the edges into a reader backward (default), forward or random."
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
    circuits search --model newsroom-gpt2 --task newsroom --n 32 --threshold 0.05

    circuits search --model newsroom-gpt2 --task newsroom --n 32 --metric kl-divergence
    --change fall --threshold 0.01 --out search-kl

    circuits search --method head-pruning --model newsroom-gpt2 --task newsroom --n 32
    --threshold 0.02 --evaluate-n 200
    """
    from circuits.errors import CircuitsError

    use.require_writable(out)
    of_acdc = {"relative_to": relative_to, "change": change, "order": order}
    foreign: dict[str, Any] = {
        "acdc": {"evaluate_n": evaluate_n, "evaluate_split": evaluate_split},
        "head-pruning": {**of_acdc, "nodes": nodes or None},
    }
    if method not in METHODS:
        raise CircuitsError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    for name, value in foreign[method].items():
        if value is not None:
            raise CircuitsError(f"--{name.replace('_', '-')} is no option of {method}")
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
    ).to_dict()
    common: dict[str, Any] = {
        **({} if ablation is None else {"ablation": ablation}),
        "metric": metric,
        "batch_size": batch_size,
        "seed": seed,
        "progress": not quiet,
    }
    use.write_skipped(out, pairs.skipped)
    if method == "acdc":
        given = {key: value for key, value in of_acdc.items() if value is not None}
        _acdc(hooked, pairs, threshold, out, {**common, **given, "nodes": nodes}, performance)
        return
    others = None
    if evaluate_n is not None or evaluate_split is not None:
        others = use.load_pairs(loaded, hooked, evaluate_n, evaluate_split or "test", seed)
        use.warn_of_seen(others, pairs.fingerprints, "searched on")
        use.write_skipped(out, (*pairs.skipped, *others.skipped))
    _prune(hooked, pairs, threshold, out, {**common, "evaluate_on": others}, performance)


def _acdc(
    model: HookedModel,
    pairs: PairSet,
    threshold: float,
    out: Path,
    settings: dict[str, Any],
    performance: dict[str, Any],
) -> None:
    from circuits.search import acdc

    found = acdc(model, pairs, threshold, resume=out / "search.json", **settings)
    found.details["performance"] = performance
    found.save(out / "search.json")
    found.circuit.save(out / "circuit.json")
    cost = found.cost
    what = found.details["granularity"]
    typer.echo(
        f"{found.details['metric']} on {len(pairs)} pairs: model {found.metric_model:.4f}, "
        f"circuit {found.metric_circuit:.4f}, no edge {found.metric_empty:.4f}"
    )
    typer.echo(
        f"{len(found.circuit)} of {model.layout.n_edges} edges stay, {len(found.nodes)} heads and "
        f"MLPs; {cost.decisions} {what} tried, {cost.untried} dropped untried"
    )
    typer.echo(
        f"{cost.runs} runs, {cost.layers_run} layers: {_compared(cost.saving)} than a whole "
        f"run for each of all {what}"
    )
    weights = sorted(
        (step for step in found.history if step.kept),
        key=lambda step: -abs(step.after - step.before),
    )
    for step in weights[:10]:
        typer.echo(f"{step.before - step.after:+.5f}  {step.name}")
    use.echo_outputs(out / "search.json", out / "circuit.json")


def _prune(
    model: HookedModel,
    pairs: PairSet,
    threshold: float,
    out: Path,
    settings: dict[str, Any],
    performance: dict[str, Any],
) -> None:
    from circuits.search import prune_heads

    found = prune_heads(model, pairs, threshold, **settings)
    found.details["performance"] = performance
    found.save(out / "heads.json")
    judge, places = found.details["metric"], model.layout.attentions
    for place, kept, baseline in zip(places, found.kept, found.baselines, strict=True):
        heads = ", ".join(f"h{head}" for head in kept) or "none"
        typer.echo(f"{place.prefix:>7}: {heads} stay; {judge} was {baseline:.4f}")
    typer.echo(
        f"{len(found.heads)} of {len(found.history)} heads stay; {judge} on {len(pairs)} pairs: "
        f"model {found.metric_model:.4f}, pruned {found.metric_pruned:.4f}"
    )
    seen = found.details.get("evaluated_on", {}).get("searched_on")
    for name, figures in found.evaluation.items():
        sides = (("model", figures.model), ("pruned", figures.pruned), ("fall", figures.fall))
        told = ", ".join(
            f"{side} {v:.4f} [{low:.4f}, {high:.4f}]" for side, (v, low, high) in sides
        )
        which = f"pairs, {seen} of them searched on" if seen else "other pairs"
        typer.echo(f"{name} on {figures.n} {which}: {told}")
    use.echo_outputs(out / "heads.json")


def _compared(saving: float) -> str:
    return f"{saving:.1f} times fewer" if saving >= 1 else f"{1 / saving:.1f} times more"
