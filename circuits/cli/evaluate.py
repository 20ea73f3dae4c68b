"""The verb `circuits evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.ranking import Chooser, show_inlets, with_others
from circuits.cli.recorded import recorded_model, recorded_task, scored_again
from circuits.cli.steps import step
from circuits.cli.variants import variant_pairs
from circuits.errors import CircuitsError
from circuits.options.circuit import CircuitOptions
from circuits.options.evaluation import (
    BackupsConfig,
    CompletenessConfig,
    EvalConfig,
    MinimalityConfig,
    NullModelConfig,
    PerturbationOptions,
    StabilityConfig,
)
from circuits.options.model import LoadOptions
from tasks.named_splits import Split

if TYPE_CHECKING:
    from circuits.evaluation import CheckpointEvaluation, Evaluation, Faithfulness
    from circuits.graph import AnyCircuit, AnyScores
    from circuits.models import HookedModel
    from tasks.pairs import PairSet

PARTIAL = "evaluation.partial"


def evaluate(
    *,
    scores: Annotated[Path, typer.Option(help="Folder or file that `discover` wrote.")],
    out: use.Out = Path("evaluation"),
    model: use.ScoredModel = None,
    loading: LoadOptions,
    task: use.ScoredTask = None,
    source: use.DataOptions,
    split: Annotated[
        Split | None, typer.Option(help="Part of the examples (default: one not scored on).")
    ] = None,
    chosen_by: CircuitOptions,
    circuit_file: Annotated[
        Path | None,
        typer.Option(
            "--circuit", help="A circuit's file to look at closely, in place of --fraction."
        ),
    ] = None,
    minimal: Annotated[
        bool,
        typer.Option("--minimality", help="Also remove each edge or node alone, a run each."),
    ] = False,
    complete: Annotated[
        bool, typer.Option("--completeness", help="Also knock sets of nodes out.")
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--backups", help="Also look for nodes that take over where the circuit is ablated."
        ),
    ] = False,
    untaught: Annotated[
        bool,
        typer.Option(
            "--null-model",
            help="Also score a model of shuffled weights, which takes as long as the scoring did.",
        ),
    ] = False,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            help="Also evaluate on pairs of the task made otherwise, as in corruption=swap, "
            "seed=7, or template=2,corruption=swap; may be repeated.",
        ),
    ] = None,
    perturbed: PerturbationOptions,
    config: EvalConfig,
    run: use.Run,
    engine: use.Engine,
    quiet: use.Quiet = False,
) -> None:
    """Measure how faithful a circuit is, on unseen examples.

    Unseen are those that were not scored on. The circuit has the same level as the scores (edge,
    node or neuron). Use --circuit to evaluate a circuit from another source, for example `circuits
    search`. By default, absolute, signed and mixed ranking are tried on 16 more pairs, and the most
    faithful one is taken. Writes evaluation.json and evaluation.html: faithfulness by circuit size,
    with bootstrap intervals over examples and a random ranking as control; stability under
    resampling, where single examples' scores were kept.

    Stopped half-way, it leaves evaluation.partial there, and the same command continues from it.

    Example: circuits evaluate --scores scores --split test --out evaluation
    """
    from circuits.evaluation import (
        CheckpointEvaluation,
        RankingTrials,
        Undefined,
        null_model,
        perturb,
    )
    from circuits.evaluation import evaluate as evaluation_of
    from circuits.evaluation.results import OWN
    from circuits.graph import load_scores
    from circuits.graph.levels import select_size, size_of_fraction
    from circuits.provenance import source_of_other_weights
    from circuits.report import write_report
    from circuits.runtime.resume import Pieces

    run = replace(run, engine=use.engine_of(engine))
    use.require_writable(out)
    loaded_scores = load_scores(scores)
    automatic = circuit_file is None and chosen_by.ranking == "auto"
    strategy, size = chosen_by.strategy, 0
    if circuit_file is None:
        size = size_of_fraction(loaded_scores, chosen_by.fraction)
        circuit = select_size(
            loaded_scores,
            size,
            strategy=strategy,
            ranking="absolute" if chosen_by.ranking == "auto" else chosen_by.ranking,
            positive_ratio=chosen_by.positive_ratio,
        )
    else:
        if replace(chosen_by, fraction=CircuitOptions.fraction) != CircuitOptions():
            raise CircuitsError(
                "--circuit is chosen already; --strategy and --ranking do not go with it"
            )
        circuit = _fitting(circuit_file, loaded_scores)
    task_name, source = recorded_task(task, source, loaded_scores.provenance, "--task")
    loaded = use.load_task(task_name, source)
    hooked = use.load_hooked(*recorded_model(model, loading, loaded_scores.provenance, "--model"))
    unseen = split or use.unseen_split(loaded_scores.provenance, reads_file=source.data is not None)
    pairs = use.load_pairs(loaded, hooked, source.n, unseen, run.seed)
    variant_sets = variant_pairs(variant or (), task_name, source, hooked, unseen, run.seed)
    choice_pairs = None
    if automatic:
        scored_on = loaded_scores.provenance.pairs or ()
        pairs, choice_pairs = with_others(
            loaded, hooked, pairs, run.seed, scored_on, enough=chosen_by.choose
        )
    use.warn_of_scored(loaded_scores.provenance, pairs)
    scored_pairs = scored_again(loaded, hooked, loaded_scores) if untaught else None
    _warn_of_few(pairs)
    other_model = source_of_other_weights(hooked, loaded_scores.provenance)
    if other_model is not None:
        typer.echo(f"note: the scores were made from another model, {other_model}", err=True)
    options = use.running(run, quiet)
    with Pieces(out / PARTIAL) as resume:
        if automatic:
            trials = RankingTrials(size, strategy)
            chooser = Chooser(
                hooked, choice_pairs, trials, config.metric, options, config.ablation, resume
            )
            circuit = chooser.circuit(loaded_scores)
        show_inlets(circuit)
        conditions: dict[str, PairSet] = variant_sets | {
            kind: perturb(pairs, kind, hooked.tokenizer, n_ctx=hooked.n_ctx, seed=run.seed)
            for kind in perturbed.perturbations
        }
        evaluation_config = replace(
            config,
            minimality=MinimalityConfig() if minimal else None,
            completeness=CompletenessConfig() if complete else None,
            stability=StabilityConfig(),
            backups=BackupsConfig() if take_over else None,
            null_model=NullModelConfig() if untaught else None,
        )
        with step("evaluating circuits"):
            part = evaluation_of(
                hooked,
                loaded_scores,
                circuit,
                pairs,
                config=evaluation_config,
                conditions=conditions,
                options=options,
                resume=resume,
            )
        if isinstance(part.faithfulness, Undefined):
            raise CircuitsError(part.faithfulness.undefined_reason)
        evaluated = CheckpointEvaluation(**dict(part))
        if scored_pairs is not None:
            with step("scoring a model that learned nothing"):
                null = null_model(
                    *(hooked, loaded_scores, circuit, scored_pairs, pairs),
                    config=evaluation_config,
                    options=options,
                    resume=resume,
                )
            evaluated = evaluated.model_copy(update={"null_model": null})
        _show(evaluated, part.faithfulness, pairs, loaded_scores.provenance.metric)
        used = {OWN: pairs, **conditions}
        _result(evaluated, hooked, loaded_scores, circuit, used, other_model).save(
            out / "evaluation.json"
        )
    page = write_report(out, name="evaluation.html", anchors=["evaluation"])
    use.echo_outputs(out / "evaluation.json", page, *use.write_skipped(out, pairs.skipped))


def _fitting(file: Path, scores: AnyScores) -> AnyCircuit:
    """A circuit of the same model and level as the scores, which the curve is of."""
    from circuits.graph.levels import empty_like, load_circuit

    circuit, empty_circuit = load_circuit(file), empty_like(scores)
    if (circuit.layout, circuit.level) != (empty_circuit.layout, empty_circuit.level):
        raise CircuitsError(
            f"{file}: a circuit of {circuit.level}s of {circuit.layout.summary}, where the scores "
            f"are of {empty_circuit.level}s of {empty_circuit.layout.summary}"
        )
    return circuit


def _warn_of_few(pairs: PairSet) -> None:
    from circuits.statistics import FEW

    if len(pairs) < FEW:
        caution = (
            "a single pair has no interval"
            if len(pairs) == 1
            else f"intervals of {len(pairs)} pairs are too narrow"
        )
        typer.echo(f"warning: {caution}; evaluate {FEW} or more", err=True)


def _result(
    evaluated: CheckpointEvaluation,
    model: HookedModel,
    scores: AnyScores,
    circuit: AnyCircuit,
    used: Mapping[str, PairSet],
    other_model: str | None,
) -> Evaluation:
    """The content of evaluation.json. used: pairs by condition, "evaluate" the evaluation's own.
    other_model: what the scores are of, if it is another.
    """
    from circuits.evaluation import Evaluation, EvaluationProvenance, PairsUsed
    from circuits.evaluation.results import OWN
    from circuits.provenance import describe_model

    name, selection = Path(model.name).name, circuit.provenance.selection
    pairs_used = {condition: PairsUsed.of(pairs) for condition, pairs in used.items()}
    scored = scores.provenance.data
    if scored is not None:
        pairs_used["score"] = PairsUsed(
            n=scored.n, split=scored.split, fingerprint=scored.fingerprint
        )
    return Evaluation(
        order=(name,),
        checkpoints={name: evaluated},
        pairs=pairs_used,
        provenance=EvaluationProvenance(
            task=used[OWN].task,
            method=scores.method,
            metric=scores.provenance.metric,
            strategy=None if selection is None else selection.strategy,
            model=describe_model(model),
            scores_of_another_model=other_model,
        ),
    )


def _show(
    evaluated: CheckpointEvaluation, curve: Faithfulness, pairs: PairSet, scored_by: str | None
) -> None:
    """The curve as a table, the areas, a line on every other question, and the verdict in words."""
    from circuits.evaluation.results import OWN

    judged = f"of {curve.metric}"
    if scored_by not in (None, curve.metric):
        judged += f" (the scores are of {scored_by})"
    typer.echo(f"faithfulness f on {len(pairs)} pairs ({pairs.split}), 95 % intervals, {judged}")
    _show_curve(curve)
    random = curve.curves["random"]
    typer.echo(f"CPR {curve.cpr} (random {random.area_f})")
    typer.echo(f"CMD {curve.cmd} (random {random.area_abs_gap})")
    typer.echo(f"area on the log axis {curve.curves['absolute'].log_area_f}")
    circuit = evaluated.circuit
    nodes = "" if circuit.level == "node" else f", {circuit.n_nodes} nodes"
    typer.echo(f"\nthe circuit of {circuit.size} {circuit.level}s{nodes}")
    if circuit.degenerate_reason:
        typer.echo(f"  {circuit.degenerate_reason}")
    for name, condition in evaluated.robustness.items():
        outcome = condition.undefined_reason or f"{condition.circuit} (random {condition.control})"
        typer.echo(f"  f{'' if name == OWN else f', {name}'}: {outcome}")
    for line in _answers(evaluated):
        typer.echo(f"  {line}")
    if judged_on := evaluated.robustness.get(OWN):
        typer.echo(f"\nin words: on {len(pairs)} pairs ({pairs.split}) {judged_on.verdict}")


def _show_curve(curve: Faithfulness) -> None:
    """Faithfulness by size, a column for each ranking as wide as its widest interval; how many
    edges pruning leaves, and how often the circuit is right, are of the absolute one.
    """
    absolute = curve.curves["absolute"]
    columns = {
        name: [str(value) for value in curve.curves[name].values]
        for name in ("absolute", "signed", "random")
    }
    width = max(22, *(len(cell) for column in columns.values() for cell in column)) + 2
    typer.echo(
        f"{'fraction':>8} {curve.level + 's':>7} {'kept':>7} {'right':>6}  "
        f"{'absolute':<{width}}{'signed':<{width}}random"
    )
    for index, fraction in enumerate(curve.fractions):
        of_absolute, of_signed, of_random = (column[index] for column in columns.values())
        reason = absolute.degenerate_reasons[index]
        typer.echo(
            f"{fraction:>8.1%} {absolute.sizes[index]:>7} {absolute.kept[index]:>7.0f} "
            f"{absolute.accuracy[index].value:>6.2f}  "
            f"{of_absolute:<{width}}{of_signed:<{width}}{of_random}"
            + (f"  ({reason})" if reason else "")
        )


def _answers(evaluated: CheckpointEvaluation) -> Iterator[str]:
    """A line on each question that was asked beside the curve."""
    from circuits.evaluation import Undefined, doubts

    minimal, complete, stable = evaluated.minimality, evaluated.completeness, evaluated.stability
    if isinstance(minimal, Undefined):
        yield f"minimality: {minimal.undefined_reason}"
    elif minimal is not None:
        outside = minimal.control_redundant_fraction
        yield (
            f"redundant {minimal.level}s: {minimal.redundant_fraction:.0%} of {len(minimal.drops)}"
            + ("" if outside is None else f" (outside it {outside:.0%})")
        )
    if isinstance(complete, Undefined):
        yield f"completeness: {complete.undefined_reason}"
    elif complete is not None:
        yield (
            f"incompleteness: {complete.incompleteness} (random {complete.control}), "
            f"greedy {complete.greedy.incompleteness}"
        )
    if stable is not None:
        yield (
            f"Jaccard index under resampling: {stable.resample_jaccard} (random {stable.control}), "
            f"{stable.n_stable} {stable.level}s in 95 % of resamples"
        )
    if evaluated.reliability is not None:
        yield from evaluated.reliability.lines()
    for ablation, condition in evaluated.ablations.items():
        right = (
            ""
            if condition.accuracy is None
            else f", accuracy {condition.accuracy.circuit.value:.2f}"
        )
        outcome = (
            condition.undefined_reason or f"{condition.circuit} (random {condition.control}){right}"
        )
        yield f"f, {ablation} in the place of what is left out: {outcome}"
    for question, answer in doubts(evaluated):
        yield f"{question}: {answer}"
