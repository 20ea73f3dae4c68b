"""The verb `circuits discover`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from circuits.cli import options as use
from circuits.cli.ranking import AUTO, Chooser, Ranking, say_look, show_inlets, with_others
from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.attribution.nodes import NodeLevel

PASSES_A_PAIR = 2
"""Of a budget: more pairs with fewer gradients each are no better on two language models, and cost
more time (docs/quadrature.md)."""

MOST = 2000
"""Pairs that --until-stable scores at most."""


def discover(
    model: use.Model,
    task: use.TaskName,
    out: use.Out = Path("scores"),
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
    method: Annotated[
        str,
        typer.Option(help="How scores are made: {methods}."),
    ] = "eap-ig",
    level: Annotated[
        str,
        typer.Option(help="edge; node or neuron, by {node_methods}."),
    ] = "edge",
    steps: Annotated[
        str | None,
        typer.Option(help="Points on the path, or auto: as many as an example needs (eap-ig: 5)."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="For --steps auto: the largest estimated error of an example (0.02)."),
    ] = None,
    quadrature: Annotated[
        str | None,
        typer.Option(
            help="midpoint, corrected-midpoint, gauss-legendre, trapezoid, right, left (EAP-IG's "
            "own) or calibrated (eap-ig: midpoint)."
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            help="Gradient passes in all (eap-ig): many pairs with two points each, spread over "
            "the path from pair to pair; fewer pairs, as by --n or a file, get more points.",
            min=1,
        ),
    ] = None,
    until_stable: Annotated[
        float | None,
        typer.Option(
            help="Score more and more pairs, from --n (32) on, until circuits from as many others "
            "would share this much (Jaccard, as in 0.8) of their edges.",
        ),
    ] = None,
    max_n: Annotated[
        int | None,
        typer.Option(help="For --until-stable: the most pairs to score (2000).", min=1),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run the method exact however long it takes.")
    ] = False,
    metric: use.Metric = None,
    size: Annotated[
        int | None, typer.Option(help="Also write circuit.json with so many edges.", min=1)
    ] = None,
    strategy: use.Strategy = "widest-path",
    ranking: use.AutoRanking = AUTO,
    positive_ratio: use.PositiveRatio = None,
    per_example: Annotated[
        bool | None,
        typer.Option(
            "--per-example/--no-per-example",
            help="Keep the scores of single examples, which `compare` and intervals need. By "
            "default they are kept up to 1 GiB, or a quarter of the free disk.",
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
    """Score every edge, node or neuron of a model on a task.

    Writes scores.safetensors and scores.json (node_scores.* for nodes, neuron_scores.* for
    neurons), and with --size circuit.json, by the ranking that is most faithful on 16 more pairs,
    or on a quarter of the pairs at hand where the task has no more. Says how far the scores, and
    circuits of that size (default: 1 % of the edges), depend on the examples, and how many it
    takes. Stopped half-way, it leaves scores.partial there, and the same command continues.

    Example: circuits discover --model newsroom-gpt2 --task newsroom --n 32 --out scores
    """
    from circuits.attribution import attribute, attribute_nodes
    from circuits.attribution import method as chosen_method
    from circuits.attribution.quadrature import STAGGERED
    from circuits.evaluation import RankingTrials, reliability
    from circuits.evaluation import until_stable as stable
    from circuits.evaluation.reliability import FEWEST, TARGET
    from circuits.evaluation.until_stable import N_FIRST
    from circuits.graph import EdgeScores, NodeScores
    from circuits.graph.provenance import TaskRecord
    from circuits.runtime.options import RunOptions
    from circuits.runtime.resume import NAME as PARTIAL
    from circuits.runtime.resume import PartialResults, Pieces

    use.require_writable(out)
    _check_choice(out, level, size, strategy, per_example)
    _check_ranking(size, ranking, positive_ratio)
    if budget is not None and (steps, quadrature, tolerance, method) != (
        None,
        None,
        None,
        "eap-ig",
    ):
        raise CircuitsError("--budget says how eap-ig takes its steps; give no other method of it")
    if until_stable is None and max_n is not None:
        raise CircuitsError("--max-n goes with --until-stable")
    if until_stable is not None and (budget is not None or method == "random"):
        raise CircuitsError("--until-stable goes neither with --budget nor with random scores")
    chosen = chosen_method(
        method,
        steps=int(steps) if steps is not None and steps.isdecimal() else steps,
        tolerance=tolerance,
        quadrature=quadrature,
        force=force or None,
        seed=seed if method == "random" else None,
    )
    loaded = use.load_task(task, data, task_option, skip=skip_bad_rows)
    hooked = use.load_hooked(model, device, dtype, tokenizer)
    if size is not None and size > hooked.layout.n_edges:
        raise CircuitsError(f"--size {size}: this model has {hooked.layout.n_edges}")
    if budget is not None and n is None and data is None:
        n = max(1, budget // PASSES_A_PAIR)
    growing = until_stable is not None
    pairs = use.load_pairs(
        loaded, hooked, n, split, seed, most=(max_n or MOST) if growing else None
    )
    others = None
    if size is not None and ranking == AUTO:
        pairs, others = with_others(loaded, hooked, pairs, seed)
    if budget is not None:
        if budget < len(pairs):
            raise CircuitsError(
                f"--budget {budget}: fewer passes than the {len(pairs)} pairs; give --n"
            )
        chosen = chosen_method(method, steps=budget // len(pairs), quadrature=STAGGERED)
    performance = use.check_task(
        hooked,
        pairs[: n or N_FIRST] if growing else pairs,
        metric=metric,
        required=require_accuracy,
        batch_size=batch_size,
        seed=seed,
    )
    score = (
        attribute if level == "edge" else partial(attribute_nodes, level=cast("NodeLevel", level))
    )
    with Pieces(out / "ranking.partial") as pieces, PartialResults(out / PARTIAL) as resume:
        chooser = None
        if size is not None:
            chooser = Chooser(
                hooked,
                others,
                RankingTrials(size, strategy),
                metric,
                RunOptions(batch_size, seed, not quiet),
            )
        taken = Ranking(ranking, positive_ratio, pieces, chooser)
        growth = None
        if until_stable is not None:
            growth = stable(
                until_stable,
                n_first=n or N_FIRST,
                size=size,
                strategy=strategy if level == "edge" else None,
                ranking=taken.name if ranking == AUTO else ranking,
                positive_ratio=positive_ratio,
                seed=seed,
                on_look=None if quiet else say_look,
            )
        scores: EdgeScores | NodeScores = score(
            hooked,
            pairs if growth is None else growth.over(pairs),
            chosen,
            metric=metric,
            options=RunOptions(batch_size, progress=not quiet),
            per_example=per_example,
            resume=resume,
        )
        made_from = scores.provenance
        assert made_from.data is not None
        pairs = pairs[: made_from.data.n]
        pick = taken(scores)
        reliable = None
        if method != "random" and len(pairs) >= FEWEST:
            reliable = reliability(
                scores,
                size=size,
                strategy=strategy if level == "edge" else None,
                ranking=pick.ranking,
                positive_ratio=pick.positive_ratio,
                target=until_stable or TARGET,
                seed=seed,
            )
        scores = scores.noting(
            seed=seed,
            performance=performance,
            reliability=reliable,
            task=TaskRecord(
                name=task,
                data=None if data is None else str(data),
                options=(*(task_option or ()), *(["skip=true"] if skip_bad_rows else ())),
            ),
        )
        file = scores.save(out)
    written = [file, file.with_suffix(".json"), *use.write_skipped(out, pairs.skipped)]
    if size is not None and isinstance(scores, EdgeScores):
        pick.say()
        circuit = pick.select(scores, size, strategy)
        show_inlets(circuit)
        circuit.save(out / "circuit.json")
        written.append(out / "circuit.json")
    count = scores.layout.n_edges if isinstance(scores, EdgeScores) else len(scores.values)
    typer.echo(
        f"{count} {level}s on {len(pairs)} pairs; {made_from.metric}: clean "
        f"{made_from.metric_clean:.4f}, corrupted {made_from.metric_corrupted:.4f}"
    )
    if error := made_from.error:
        typer.echo(
            f"estimated error of the scores {error.estimate:.2%} (worst example "
            f"{error.worst:.2%}), {error.gradients:.1f} gradients an example"
        )
    if reliable is not None:
        typer.echo("\n".join(reliable.lines(error.estimate if error else None)))
        if growing and not reliable.reached:
            typer.echo(
                f"warning: {reliable.target:g} was not reached with all {len(pairs)} pairs that "
                "there are or that --max-n allows",
                err=True,
            )
    for name, value in scores.top(10):
        typer.echo(f"{value:+.5f}  {name}")
    use.echo_outputs(*written)


def _check_choice(
    out: Path, level: str, size: int | None, strategy: str, per_example: bool | None
) -> None:
    """Refuse before the scoring what would be refused, or be of no effect, after it."""
    from circuits.graph.orders import ORDERS

    stale = out / "circuit.json"
    if level != "edge" and size is not None:
        raise CircuitsError(f"--size chooses among edges; it does not go with --level {level}")
    if strategy not in ORDERS:
        raise CircuitsError(f"unknown strategy {strategy!r}; known: {', '.join(ORDERS)}")
    if strategy != "widest-path" and size is None:
        raise CircuitsError(f"--strategy {strategy} chooses edges; say how many with --size")
    if strategy == "stable" and per_example is False:
        raise CircuitsError("--strategy stable needs the scores of single examples (--per-example)")
    if level == "edge" and size is None and stale.exists():
        raise CircuitsError(
            f"{stale}: it exists already and was selected from other scores; delete it, pass "
            "--size to overwrite it, or choose another --out"
        )


def _check_ranking(size: int | None, ranking: str, positive_ratio: float | None) -> None:
    from circuits.graph.orders import require_ranking

    if ranking == AUTO and positive_ratio is None:
        return
    require_ranking(ranking, positive_ratio)
    if size is None:
        raise CircuitsError(f"--ranking {ranking} chooses edges; say how many with --size")
