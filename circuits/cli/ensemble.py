"""The verb `circuits ensemble`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.ranking import LEAST
from circuits.cli.recorded import recorded_model, recorded_task
from circuits.cli.scored_model import load_scored
from circuits.cli.steps import step
from circuits.errors import CircuitsError
from circuits.options.choices import Strategy
from circuits.options.ensemble import EnsembleConfig
from circuits.options.model import LoadOptions
from tasks.named_splits import Split

if TYPE_CHECKING:
    from circuits.evaluation import EnsembleWeights
    from circuits.graph import AnyScores


def ensemble(
    *,
    scores: Annotated[
        list[Path],
        typer.Argument(help="Two or more folders or files of scores of one model's edges (nodes)."),
    ],
    out: use.Out = Path("ensemble"),
    how: EnsembleConfig,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            help="A member's weight; repeat in the order of the scores (default: all equal)."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Choose the weights for circuits of this size, on pairs of their own.",
            parser=use.read_size,
            metavar="<int>",
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(help="With --size: random weights that are tried (default: 8).", min=0),
    ] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(help="With --size: how edges are taken by their rank (default: widest-path)."),
    ] = None,
    choose: Annotated[
        int | None,
        typer.Option(help="With --size: how many pairs to choose on (default: 16).", min=2),
    ] = None,
    split: Annotated[
        Split | None, typer.Option(help="With --size: their split (default: the scores' own).")
    ] = None,
    loading: LoadOptions,
    metric: Annotated[
        str | None, typer.Option(help="With --size: metric (default: the task's own).")
    ] = None,
    run: use.Run,
    quiet: use.Quiet = False,
) -> None:
    """Put several scores of one model into one ranking.

    The scores may be of several methods, corruptions or metrics, or learned masks. Members are made
    comparable and averaged. With --size the weights are chosen by how faithful circuits of that
    size are, on pairs that no member was made from, and circuit.json is written. Writes
    scores.safetensors and scores.json (node_scores.* and neuron_scores.* of nodes and neurons), and
    with --size ensemble.json, which says what was tried.

    Example: circuits ensemble scores other --size 24 --out ensemble
    """
    from circuits.evaluation import WeightTrials, choose_weights
    from circuits.graph import load_scores
    from circuits.graph.ensemble import ensemble as put_together
    from circuits.graph.levels import select_size

    use.require_writable(out)
    members = [load_scores(path) for path in scores]
    if size is None:
        selection_options = {"draws": draws, "strategy": strategy, "choose": choose, "split": split}
        for name, value in {**selection_options, "metric": metric}.items():
            if value is not None:
                raise CircuitsError(f"--{name} goes with --size")
        ensemble_scores = put_together(members, weight, how)
        file = ensemble_scores.save(out)
        use.echo_outputs(file, file.with_suffix(".json"))
        return
    if weight:
        raise CircuitsError("--size chooses the weights; leave --weight out")
    put_together(members, None, how)  # refuses members that do not go together, before a model runs
    made_from = members[0].provenance
    loaded = use.load_task(*recorded_task(None, use.DataOptions(), made_from))
    hooked = load_scored(*recorded_model(None, loading, made_from), scores[0], made_from)
    scored = {mark for member in members for mark in member.provenance.pairs or ()}
    n_choose = choose or 16
    pairs = use.load_pairs(
        loaded,
        hooked,
        len(scored) + n_choose,
        split or use.split_of(made_from),
        run.seed,
    )
    unseen = pairs.without(scored)[:n_choose]
    if len(unseen) < min(LEAST, n_choose):
        raise CircuitsError(
            f"{len(unseen)} pairs are left that no member was made from; name another --split"
        )
    with step("choosing the weights"):
        choice = choose_weights(
            hooked,
            members,
            replace(pairs, pairs=unseen),
            WeightTrials(size, **({} if draws is None else {"draws": draws}), strategy=strategy),
            how,
            metric=metric,
            options=use.running(run, quiet),
        )
    ensemble_scores = choice.scores(members)
    file = ensemble_scores.save(out)
    choice.save(out / "ensemble.json")
    circuit = select_size(ensemble_scores, size, strategy=strategy, ranking=choice.ranking)
    circuit.save(out / "circuit.json")
    _show(choice, members)
    use.echo_outputs(file, file.with_suffix(".json"), out / "ensemble.json", out / "circuit.json")


def _show(choice: EnsembleWeights, members: list[AnyScores]) -> None:
    """What was tried, and what is taken."""
    typer.echo(
        f"weights of {', '.join(member.method for member in members)} on {choice.n} other pairs:"
    )
    for trial in choice.trials:
        is_taken = (trial.weights, trial.ranking) == (choice.weights, choice.ranking)
        weights = " ".join(f"{weight:.2f}" for weight in trial.weights)
        typer.echo(
            f"{'*' if is_taken else ' '} {weights}  {trial.ranking:<9} f {trial.f!s:<24} "
            f"CMD {trial.area_abs_gap}"
        )
