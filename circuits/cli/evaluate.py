"""The verb `circuits evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuits.cli import options as use
from circuits.cli.ranking import AUTO, chosen_circuit, show_inlets, with_others
from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.graph import AnyCircuit, AnyScores
    from circuits.graph.provenance import DataRecord
    from tasks.pairs import PairSet


PARTIAL = "evaluation.partial"


def evaluate(
    scores: Annotated[Path, typer.Option(help="Folder or file that `discover` wrote.")],
    out: use.Out = Path("evaluation"),
    model: Annotated[
        str | None,
        typer.Option(help="The model (default: the one that the scores were made from)."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", help="The task (default: the scores' own, with its file and options)."
        ),
    ] = None,
    data: use.Data = None,
    task_option: use.TaskOptions = None,
    skip_bad_rows: use.Skip = False,
    n: use.Number = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation, test or all (default: one not scored on)."),
    ] = None,
    fraction: Annotated[
        float,
        typer.Option(help="Size of the circuit looked at closely, of all edges, nodes or neurons."),
    ] = 0.1,
    given: Annotated[
        Path | None,
        typer.Option(
            "--circuit", help="A circuit's file to look at closely, in place of --fraction."
        ),
    ] = None,
    strategy: use.AnyStrategy = None,
    ranking: use.AutoRanking = AUTO,
    positive_ratio: use.PositiveRatio = None,
    minimal: Annotated[
        bool,
        typer.Option("--minimality", help="Also remove each edge or node alone, a run each."),
    ] = False,
    complete: Annotated[
        bool, typer.Option("--completeness", help="Also knock sets of nodes out.")
    ] = False,
    perturb: Annotated[
        list[str] | None,
        typer.Option(help="typos, longer, shorter or sentence-order; may be repeated."),
    ] = None,
    metric: use.Metric = None,
    ablation: Annotated[
        str, typer.Option(help="For what is left out: corrupted, mean, mean-positional or zero.")
    ] = "corrupted",
    batch_size: use.BatchSize = None,
    tokenizer: use.Tokenizer = None,
    device: use.Device = None,
    dtype: use.Dtype = "float32",
    seed: use.Seed = 0,
    quiet: use.Quiet = False,
) -> None:
    """Measure how faithful circuits are, on examples that were not scored on.

    The circuit has the same level as the scores (edge, node or neuron). Use --circuit to evaluate a
    circuit from another source, for example `circuits search`. By default, absolute, signed and
    mixed ranking are tried on 16 more pairs, and the most faithful one is taken. Writes
    evaluation.json and evaluation.html: faithfulness by circuit size, with bootstrap intervals over
    examples and a random ranking as control; stability under resampling, where single examples'
    scores were kept.

    Stopped half-way, it leaves evaluation.partial there, and the same command continues from it.

    Example: circuits evaluate --scores scores --split test --out evaluation
    """
    from circuits.evaluation import EvalConfig
    from circuits.evaluation import evaluate as evaluation_of
    from circuits.evaluation import perturb as perturbed
    from circuits.graph import load_scores
    from circuits.graph.levels import select_size, size_of_fraction
    from circuits.provenance import describe_model, source_of_other_weights
    from circuits.report import write_report
    from circuits.runtime.files import write_json
    from circuits.runtime.resume import Pieces

    use.require_writable(out)
    found = load_scores(scores)
    scored = found.provenance.data
    size = 0
    if given is None:
        size = size_of_fraction(found, fraction)
        named = "absolute" if ranking == AUTO else ranking
        circuit = select_size(
            found, size, strategy=strategy, ranking=named, positive_ratio=positive_ratio
        )
    else:
        if (strategy, ranking, positive_ratio) != (None, AUTO, None):
            raise CircuitsError(
                "--circuit is chosen already; --strategy and --ranking do not go with it"
            )
        circuit = _fitting(given, found)
    if task is None:
        recorded = found.provenance.task
        if recorded is not None:
            data = data or (None if recorded.data is None else Path(recorded.data))
            task_option = task_option or list(recorded.options)
    loaded = use.load_task(
        _known(task, None if scored is None else scored.task, "--task"),
        data,
        task_option,
        skip=skip_bad_rows,
    )
    made_with = found.provenance.model
    hooked = use.load_hooked(
        _known(model, None if made_with is None else made_with.name, "--model"),
        device,
        dtype,
        tokenizer or (None if made_with is None else made_with.tokenizer),
    )
    pairs = use.load_pairs(loaded, hooked, n, split or _unseen(scored, data is not None), seed)
    others = None
    if given is None and ranking == AUTO:
        known = found.provenance.pairs or ()
        pairs, others = with_others(loaded, hooked, pairs, seed, known)
    use.warn_of_scored(found.provenance, pairs)
    _warn_of_few(pairs)
    other = source_of_other_weights(hooked, found.provenance)
    if other is not None:
        typer.echo(f"note: the scores were made from another model, {other}", err=True)
    with Pieces(out / PARTIAL) as resume:
        if given is None and ranking == AUTO:
            circuit = chosen_circuit(
                hooked,
                found,
                others,
                size,
                strategy=strategy,
                metric=metric,
                ablation=ablation,
                batch_size=batch_size,
                seed=seed,
                progress=not quiet,
                resume=resume,
            )
        show_inlets(circuit)
        conditions = {
            kind: perturbed(pairs, kind, hooked.tokenizer, n_ctx=hooked.n_ctx, seed=seed)
            for kind in perturb or ()
        }
        record = evaluation_of(
            hooked,
            found,
            circuit,
            pairs,
            conditions=conditions,
            questions=EvalConfig(
                minimality=len(pairs) if minimal else None,
                completeness=len(pairs) if complete else None,
                stability=200,
            ),
            metric=metric,
            ablation=ablation,
            batch_size=batch_size,
            seed=seed,
            progress=not quiet,
            resume=resume,
        )
        if "undefined" in record["faithfulness"]:
            raise CircuitsError(record["faithfulness"]["undefined"])
        _show(record, pairs, found.provenance.metric)
        name, selection = Path(hooked.name).name, circuit.provenance.selection
        used = {"n": len(pairs), "split": pairs.split, "fingerprint": pairs.fingerprint}
        write_json(
            out / "evaluation.json",
            {
                "order": [name],
                "checkpoints": {name: record},
                "pairs": {
                    "score": {} if scored is None else scored.model_dump(mode="json"),
                    "evaluate": used,
                },
                "made": {
                    "task": pairs.task,
                    "method": found.method,
                    "metric": found.provenance.metric,
                    "strategy": None if selection is None else selection.strategy,
                    "model": describe_model(hooked).model_dump(mode="json"),
                    "scores_of_another_model": other,
                },
            },
        )
    page = write_report(out, name="evaluation.html", anchors=["faithfulness"])
    use.echo_outputs(out / "evaluation.json", page, *use.write_skipped(out, pairs.skipped))


def _fitting(file: Path, scores: AnyScores) -> AnyCircuit:
    """A circuit of the same model and level as the scores, which the curve is of."""
    from circuits.graph.levels import empty_like, load_circuit

    circuit, nothing = load_circuit(file), empty_like(scores)
    if (circuit.layout, circuit.level) != (nothing.layout, nothing.level):
        raise CircuitsError(
            f"{file}: a circuit of {circuit.level}s of {circuit.layout.summary}, where the scores "
            f"are of {nothing.level}s of {nothing.layout.summary}"
        )
    return circuit


def _known(given: str | None, recorded: str | None, option: str) -> str:
    """What was asked for, or what the scores' file says they were made with."""
    value = given or recorded
    if not value:
        raise CircuitsError(f"the scores do not say what they were made with; give {option}")
    return value


def _unseen(scored: DataRecord | None, reads_file: bool) -> str:
    """A split that the scores were not made from; all of a file, if they were made from all."""
    split = None if scored is None else scored.split
    if reads_file and split in ("all", None):
        return "all"
    return "validation" if split == "test" else "test"


def _warn_of_few(pairs: PairSet) -> None:
    from circuits.statistics import FEW

    if len(pairs) < FEW:
        said = (
            "a single pair has no interval"
            if len(pairs) == 1
            else f"intervals of {len(pairs)} pairs are too narrow"
        )
        typer.echo(f"warning: {said}; evaluate {FEW} or more", err=True)


def _show(record: dict[str, Any], pairs: PairSet, scored_by: str | None) -> None:
    """The curve as a table, the areas, and a line on every other question that was asked."""
    curve, circuit = record["faithfulness"], record["circuit"]
    from circuits.evaluation import Reliability

    lines, units = curve["curves"], f"{curve['level']}s"
    judged = f"of {curve['metric']}"
    if scored_by not in (None, curve["metric"]):
        judged += f" (the scores are of {scored_by})"
    typer.echo(f"faithfulness f on {len(pairs)} pairs ({pairs.split}), 95 % intervals, {judged}")
    _show_curve(curve)
    typer.echo(f"CPR {_said(curve['cpr'])} (random {_said(lines['random']['area'])})")
    typer.echo(f"CMD {_said(curve['cmd'])} (random {_said(lines['random']['distance'])})")
    typer.echo(f"area on the log axis {_said(lines['absolute']['log_area'])}")
    nodes = "" if units == "nodes" else f", {circuit['nodes']} nodes"
    typer.echo(f"\nthe circuit of {circuit[units]} {units}{nodes}")
    if circuit["nothing_left"]:
        typer.echo(f"  {circuit['nothing_left']}")
    for name, one in record["robustness"].items():
        said = one["undefined"] or f"{_said(one['circuit'])} (random {_said(one['control'])})"
        typer.echo(f"  f, {name}: {said}")
    for question, answer in (
        ("idle {unit}", "minimality"),
        ("gap of incompleteness", "completeness"),
        ("overlap under resampling", "stability"),
    ):
        one = record[answer]
        if one is not None:
            asked = question.format(unit=one.get("unit", units))
            typer.echo(f"  {asked}: {one.get('undefined') or _ANSWERS[answer](one)}")
    if record["reliability"] is not None:
        for line in Reliability.from_dict(record["reliability"]).lines():
            typer.echo(f"  {line}")


def _show_curve(curve: dict[str, Any]) -> None:
    """Faithfulness by size, a column for each ranking as wide as its widest interval."""
    lines, units = curve["curves"], f"{curve['level']}s"
    columns = {
        name: [_said(value) for value in lines[name]["values"]]
        for name in ("absolute", "signed", "random")
    }
    width = max(22, *(len(said) for column in columns.values() for said in column)) + 2
    typer.echo(
        f"{'share':>7} {units:>7} {'kept':>7}  {'absolute':<{width}}{'signed':<{width}}random"
    )
    for place, fraction in enumerate(curve["fractions"]):
        absolute, signed, random = (column[place] for column in columns.values())
        size, kept = (lines["absolute"][part][place] for part in (units, "kept"))
        note = lines["absolute"]["notes"][place]
        typer.echo(
            f"{fraction:>7.1%} {size:>7} {kept:>7.0f}  {absolute:<{width}}{signed:<{width}}{random}"
            + (f"  ({note})" if note else "")
        )


_ANSWERS: dict[str, Any] = {
    "minimality": lambda one: (
        f"{one['idle']:.0%} of {len(one['falls'])}"
        + ("" if one["control_idle"] is None else f" (outside it {one['control_idle']:.0%})")
    ),
    "completeness": lambda one: (
        f"{_said(one['mean'])} (random {_said(one['control'])}), "
        f"greedy {_said(one['greedy']['gap'])}"
    ),
    "stability": lambda one: (
        f"{_said(one['overlap'])} (random {_said(one['control'])}), "
        f"{one['core']} {one['unit']} in 95 % of resamples"
    ),
}


def _said(value: dict[str, Any] | None) -> str:
    from circuits.evaluation import Estimate

    return "undefined" if value is None else str(Estimate.from_dict(value))
