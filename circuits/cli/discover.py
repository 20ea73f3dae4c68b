"""The verb `circuits discover`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.flags import Without
from circuits.cli.precision import require_quantised, say_precision
from circuits.cli.ranking import Chooser, Ranking, say_look, show_inlets, split_off, with_others
from circuits.cli.steps import step
from circuits.errors import CircuitsError
from circuits.options.attribution import AttributionOptions, MetricOptions
from circuits.options.choices import Level, Strategy
from circuits.options.choices import Ranking as RankingName
from circuits.options.circuit import CircuitOptions
from circuits.options.model import ModelOptions
from circuits.options.run import RecomputeOptions

if TYPE_CHECKING:
    from circuits.models import HookedModel

PASSES_A_PAIR = 2
"""Of a budget: more pairs with fewer gradients each are no better on two language models, and cost
more time (docs/quadrature.md)."""

MOST = 2000
"""Pairs that --until-stable scores at most."""


def discover(
    *,
    model: ModelOptions,
    source: use.TaskOptions,
    out: use.Out = Path("scores"),
    how: AttributionOptions,
    level: Annotated[
        Level,
        typer.Option(help="What is scored; nodes and neurons by {node_methods}."),
    ] = "edge",
    budget: Annotated[
        int | None,
        typer.Option(
            help="For eap-ig: gradient passes in all, in place of --n and --steps. Many pairs get "
            "two points each; fewer pairs, as by --n or a file, get more points.",
            min=1,
        ),
    ] = None,
    until_stable: Annotated[
        float | None,
        typer.Option(
            help="Score more pairs until a circuit from as many other pairs would have this "
            "Jaccard index with the one found, as in 0.8. Begins with --n pairs (default here: "
            "32).",
        ),
    ] = None,
    max_n: Annotated[
        int | None,
        typer.Option(help="For --until-stable: the most pairs to score (default: 2000).", min=1),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Also write circuit.json, with this number of edges, nodes or neurons.",
            parser=use.read_size,
            metavar="<int>",
        ),
    ] = None,
    chosen_by: Annotated[CircuitOptions, Without("fraction")],
    per_example: Annotated[
        bool | None,
        typer.Option(
            "--per-example/--no-per-example",
            help="Keep the scores of single examples, which `compare` and intervals need "
            "(default: where they fit in a quarter of the free disk).",
        ),
    ] = None,
    compare_precision: Annotated[
        bool | None,
        typer.Option(
            "--compare-precision/--no-compare-precision",
            help="With --quantize: score 8 pairs in both precisions and say how alike the scores "
            "are, where the unquantised model fits too (default: only for nf4).",
        ),
    ] = None,
    judged: MetricOptions,
    run: use.Run,
    memory: RecomputeOptions,
    engine: use.Engine,
    quiet: use.Quiet = False,
) -> None:
    """Score every edge, node or neuron of a model on a task.

    Writes scores.safetensors and scores.json (node_scores.* for nodes, neuron_scores.* for
    neurons), and with --size circuit.json, by the ranking that is most faithful on 16 more pairs,
    or on a quarter of the pairs at hand where the task has no more. Says how far the scores, and
    circuits of that size (default: 1 % of the edges or neurons, 10 % of the nodes), depend on the
    examples, and how many it takes. If it is stopped, it leaves scores.partial there, and the same
    command goes on from it.

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
    from circuits.runtime.resume import NAME as PARTIAL
    from circuits.runtime.resume import PartialResults, Pieces

    run = replace(run, engine=use.engine_of(engine), recompute=memory.recompute)
    use.require_writable(out)
    options = use.running(run, quiet)
    strategy, positive_ratio = chosen_by.strategy, chosen_by.positive_ratio
    ranking_name = None if chosen_by.ranking == "auto" else chosen_by.ranking
    _check_choice(out, level, size, strategy, per_example)
    _check_ranking(level, size, ranking_name, positive_ratio)
    require_quantised(model, compare_precision)
    if budget is not None and how != AttributionOptions():
        raise CircuitsError("--budget says how eap-ig takes its steps; give no other method of it")
    if until_stable is None and max_n is not None:
        raise CircuitsError("--max-n goes with --until-stable")
    if until_stable is not None and (budget is not None or how.method == "random"):
        raise CircuitsError("--until-stable goes neither with --budget nor with random scores")
    scoring_method = chosen_method(
        how.method, **how.settings, seed=run.seed if how.method == "random" else None
    )
    loaded = use.load_task(source.task, source)
    hooked = use.load_hooked(model.model, model)
    n_candidates = _candidates(hooked, level)
    if size is not None and size > n_candidates:
        raise CircuitsError(f"--size {size}: this model has {n_candidates} {level}s")
    n = source.n
    if budget is not None and n is None and source.data is None:
        n = max(1, budget // PASSES_A_PAIR)
    growing, choosing = until_stable is not None, size is not None and ranking_name is None
    n_choose = chosen_by.choose if choosing else 0
    limit = (max_n or MOST) + n_choose if growing else None
    pairs = use.load_pairs(loaded, hooked, n, source.split, run.seed, most=limit)
    choice_pairs = None
    if choosing and growing:  # thousands of pairs are not made twice
        pairs, choice_pairs = split_off(pairs, enough=n_choose)
    elif choosing:
        pairs, choice_pairs = with_others(loaded, hooked, pairs, run.seed, enough=n_choose)
    if budget is not None:
        if budget < len(pairs):
            raise CircuitsError(
                f"--budget {budget}: fewer passes than the {len(pairs)} pairs; give --n"
            )
        scoring_method = chosen_method(how.method, steps=budget // len(pairs), quadrature=STAGGERED)
    performance = use.check_task(
        hooked,
        pairs[: n or N_FIRST] if growing else pairs,
        metric=judged.metric,
        required=judged.require_accuracy,
        run=run,
    )
    say_precision(
        hooked,
        model,
        pairs,
        scoring_method,
        compare_precision,
        metric=judged.metric,
        options=options,
    )
    score = attribute if level == "edge" else partial(attribute_nodes, level=level)
    with Pieces(out / "ranking.partial") as pieces, PartialResults(out / PARTIAL) as resume:
        chooser = None
        if size is not None:
            chooser = Chooser(
                hooked,
                choice_pairs,
                RankingTrials(size, strategy),
                judged.metric,
                options,
            )
        ranking = Ranking(ranking_name, positive_ratio, pieces, chooser)
        growth = None
        if until_stable is not None:
            growth = stable(
                until_stable,
                n_first=n or N_FIRST,
                size=size,
                strategy=strategy,
                ranking=ranking.name if ranking_name is None else ranking_name,
                positive_ratio=positive_ratio,
                seed=run.seed,
                on_look=None if quiet else say_look,
            )
        with step(f"scoring {level}s"):
            scores: EdgeScores | NodeScores = score(
                hooked,
                pairs if growth is None else growth.over(pairs),
                scoring_method,
                metric=judged.metric,
                options=replace(options, seed=0),
                per_example=per_example,
                resume=resume,
            )
        made_from = scores.provenance
        assert made_from.data is not None
        pairs = pairs[: made_from.data.n]
        picked = ranking(scores)
        reliable = None
        if how.method != "random" and len(pairs) >= FEWEST:
            with step("resampling"):
                reliable = reliability(
                    scores,
                    size=size,
                    strategy=strategy,
                    ranking=picked.ranking,
                    positive_ratio=picked.positive_ratio,
                    target=until_stable or TARGET,
                    seed=run.seed,
                )
        scores = scores.noting(
            seed=run.seed,
            performance=performance,
            reliability=reliable,
            task=TaskRecord(
                name=source.task,
                data=None if source.data is None else str(source.data),
                options=source.given,
            ),
        )
        file = scores.save(out)
    outputs = [file, file.with_suffix(".json"), *use.write_skipped(out, pairs.skipped)]
    if size is not None:
        picked.say()
        circuit = picked.select(scores, size, strategy)
        show_inlets(circuit)
        circuit.save(out / "circuit.json")
        outputs.append(out / "circuit.json")
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
    use.echo_outputs(*outputs)


def _candidates(model: HookedModel, level: Level) -> int:
    """How many edges, nodes or neurons a circuit can be made of."""
    from circuits.attribution.nodes import units_of
    from circuits.graph import NodeCircuit

    if level == "edge":
        return model.layout.n_edges
    return len(NodeCircuit.inputs_only(units_of(model, level)).candidates)


def _check_choice(
    out: Path, level: Level, size: int | None, strategy: Strategy | None, per_example: bool | None
) -> None:
    """Refuse before the scoring what would be refused, or be of no effect, after it."""
    from circuits.graph.levels import load_circuit, require_top_n

    if strategy is not None and size is None:
        raise CircuitsError(f"--strategy {strategy} chooses {level}s; say how many with --size")
    require_top_n(level, strategy)
    if strategy == "stable" and per_example is False:
        raise CircuitsError("--strategy stable needs the scores of single examples (--per-example)")
    stale = out / "circuit.json"
    if not stale.exists():
        return
    try:
        stale_level = load_circuit(stale).level
    except CircuitsError:  # broken: as one of this level, which --size puts another in place of
        stale_level = level
    if size is None and level == stale_level:
        raise CircuitsError(
            f"{stale}: it exists already and was selected from other scores; delete it, pass "
            "--size to overwrite it, or choose another --out"
        )
    if size is not None and level != stale_level:
        raise CircuitsError(
            f"{stale}: it exists already and is a circuit of {stale_level}s; delete it, or choose "
            "another --out"
        )


def _check_ranking(
    level: Level, size: int | None, ranking: RankingName | None, positive_ratio: float | None
) -> None:
    """ranking: the one that is named; None where it is to be chosen."""
    from circuits.graph.rankings import require_ranking

    if ranking is None:
        if positive_ratio is not None:
            raise CircuitsError("--positive-ratio goes with --ranking mixed")
        return
    require_ranking(ranking, positive_ratio)
    if size is None:
        raise CircuitsError(f"--ranking {ranking} chooses {level}s; say how many with --size")
