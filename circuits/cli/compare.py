"""The verb `circuits compare`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.compare_tasks import compare_tasks
from circuits.cli.flags import Without
from circuits.cli.scored_model import load_scored
from circuits.cli.unique_suffixes import unique_suffixes
from circuits.options.attribution import MetricOptions
from circuits.options.circuit import CircuitOptions
from circuits.options.comparison import ResampleOptions
from circuits.options.model import LoadOptions
from tasks.named_splits import Split

if TYPE_CHECKING:
    from circuits.models import HookedModel


def compare(
    *,
    scores: Annotated[
        list[Path],
        typer.Argument(
            help="Score files of the checkpoints, with those of single examples; ordered by the "
            "step in their names (base, step-20, final), or as given where a name tells no step."
        ),
    ],
    out: use.Out = Path("comparison"),
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A checkpoint's model: repeat in the order of the score files, or give one folder "
            "that holds them by name. Adds faithfulness by step and the cross-evaluation.",
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="With a folder of models: the model named base.")
    ] = None,
    loading: LoadOptions,
    task: Annotated[
        str | None, typer.Option(help="Task of the cross-evaluation; see `circuits tasks`.")
    ] = None,
    source: use.DataOptions,
    split: Annotated[
        Split | None, typer.Option(help="Examples that the scores were not made from.")
    ] = None,
    chosen_by: Annotated[
        CircuitOptions, Without("strategy", "ranking", "positive_ratio", "choose")
    ],
    judged: Annotated[MetricOptions, Without("require_accuracy")],
    resampled: ResampleOptions,
    across: Annotated[
        bool,
        typer.Option(
            "--across",
            help="The score files are of one model, by several methods, corruptions or tasks: run "
            "each one's circuit on unseen pairs of all of them.",
        ),
    ] = False,
    run: use.Run,
    quiet: use.Quiet = False,
) -> None:
    """Say what changed between checkpoints, by their scores.

    It tells which edges and nodes changed, and which of the two explains more, each beside its
    noise ceiling. With --model and --task it also tells how faithful each checkpoint's circuit is
    in every other. Writes comparison.json, comparison.html and cross_evaluation.json. With
    --across it tells what methods or tasks on one model have in common, and writes
    cross_tasks.json alone. If it is stopped, the same command goes on from comparison.partial.

    Example: circuits compare runs/quickstart/scores/*.safetensors --out comparison
    --model runs/quickstart/checkpoints --base newsroom-gpt2 --task newsroom
    """
    from circuits.comparison import compare as compare_scores
    from circuits.comparison import cross_evaluate
    from circuits.errors import CircuitsError
    from circuits.graph import EdgeScores, select
    from circuits.models.steps import by_step, training_step, training_steps
    from circuits.report import narrative
    from circuits.report.comparison_page import write_comparison_page
    from circuits.runtime.resume import Pieces
    from tasks.skipping import Skipped

    use.require_writable(out)
    if across:
        if models or task is not None or base is not None or source != use.DataOptions(n=source.n):
            raise CircuitsError("--across takes model and tasks from the scores; leave them out")
        compare_tasks(
            dict(zip(_names(scores), scores, strict=True)),
            out,
            loading,
            n=source.n,
            split=split,
            fraction=chosen_by.fraction,
            n_resamples=resampled.n_resamples,
            options=use.running(run, quiet),
        )
        return
    if (task is None) != (not models):
        raise CircuitsError("--model and --task go together: the models, and what to run them on")
    names = _names(scores)
    order = by_step(names)
    names, files = [names[index] for index in order], [scores[index] for index in order]
    if training_steps(names) is None:
        typer.echo(f"note: not every name tells its step; in order: {', '.join(names)}", err=True)
    elif training_step(names[0]) is None:
        typer.echo(f"note: {names[0]} is taken to be the base, at step 0", err=True)
    sources = _sources(models, base, names, order) if models else {}
    loaded = {name: EdgeScores.load(file) for name, file in zip(names, files, strict=True)}
    load: dict[str, Callable[[], HookedModel]] = {}
    pairs, left_out = None, list[Skipped]()
    if task is not None:
        loaded_task = use.load_task(task, source)
        held_out = split or ("all" if source.data is not None else "test")
        load = {
            name: partial(load_scored, sources[name], loading, file, loaded[name].provenance)
            for name, file in zip(names, files, strict=True)
        }
        first = load[names[0]]()
        pairs = use.load_pairs(loaded_task, first, source.n, held_out, run.seed)
        del first
        use.warn_of_scored(loaded[names[0]].provenance, pairs)
        left_out += pairs.skipped

    options = use.running(run, quiet)
    with Pieces(out / "comparison.partial") as resume:
        evolution = compare_scores(
            list(loaded.values()),
            names=names,
            n_resamples=resampled.n_resamples,
            options=options,
            resume=resume,
        )
        matrix = None
        if pairs is not None:
            matrix = cross_evaluate(
                load,
                {
                    name: select(
                        edge_scores,
                        size=max(1, round(chosen_by.fraction * edge_scores.layout.n_edges)),
                    )
                    for name, edge_scores in loaded.items()
                },
                pairs,
                metric=judged.metric,
                n_resamples=resampled.n_resamples,
                options=options,
                resume=resume,
            )
        typer.echo(narrative.evolution(evolution))
        outputs = [evolution.save(out / "comparison.json"), *use.write_skipped(out, left_out)]
        file = out / "cross_evaluation.json"
        file.unlink(missing_ok=True)
        if matrix is not None:
            typer.echo(narrative.cross_evaluation(matrix))
            outputs.append(matrix.save(file))
    use.echo_outputs(*outputs, write_comparison_page(out))


def _names(files: list[Path]) -> list[str]:
    """Of the files, or of their folders where they are called scores; a second time with a 2."""
    paths = [path.absolute() for path in files]
    paths = [path.with_suffix("") if path.suffix == ".safetensors" else path for path in paths]
    names, seen = [], Counter[str]()
    for name in unique_suffixes([path.parent if path.name == "scores" else path for path in paths]):
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def _sources(
    models: list[str], base: str | None, names: list[str], order: list[int]
) -> dict[str, str]:
    """Where each checkpoint's model is: one given for each file, or folders of one folder."""
    from circuits.errors import CircuitsError

    if len(models) == len(names):
        return {name: models[index] for name, index in zip(names, order, strict=True)}
    if len(models) > 1:
        raise CircuitsError(f"{len(models)} models for {len(names)} score files; give one for each")
    sources = {name: str(Path(models[0]) / name) for name in names}
    missing = [name for name, source in sources.items() if not Path(source).is_dir()]
    if base is not None:
        base_name = _base_of(names, missing)
        if base_name is None:
            raise CircuitsError(
                f"--base {base}: none of {', '.join(names)} is the base; give its score file too, "
                "or leave --base out"
            )
        sources[base_name] = base
        missing = [name for name in missing if name != base_name]
    if missing:
        raise CircuitsError(
            f"{sources[missing[0]]}: no such model folder; give the base with --base, or repeat "
            "--model"
        )
    return sources


def _base_of(names: list[str], missing: list[str]) -> str | None:
    """Whose model --base is: of step 0, or of no step and no folder, if that is one only."""
    from circuits.models.steps import training_step

    steps = {name: training_step(name) for name in names}
    start = [name for name in names if steps[name] == 0]
    candidates = start or [name for name in missing if steps[name] is None]
    return candidates[0] if len(candidates) == 1 else None
