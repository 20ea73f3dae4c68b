"""`circuits compare --across`: circuits of one model by several methods, corruptions or tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from circuits.cli import options as use
from circuits.cli.recorded import recorded_model, recorded_task
from circuits.cli.scored_model import load_scored
from circuits.errors import CircuitsError
from circuits.options.model import LoadOptions
from circuits.options.run import RunOptions
from tasks.named_splits import Split

if TYPE_CHECKING:
    from tasks.pairs import PairSet


def compare_tasks(
    files: Mapping[str, Path],
    out: Path,
    loading: LoadOptions,
    *,
    n: int | None,
    split: Split | None,
    fraction: float,
    n_resamples: int,
    options: RunOptions,
) -> None:
    """Hold the circuits of score files against each other, each on the pairs of all of them.

    files: of one model's scores, by name. n, split: of each file's own task; None takes 100 pairs
    of a split that was not scored on. fraction: size of the circuits.
    """
    from circuits.comparison import cross_tasks
    from circuits.graph import load_scores
    from circuits.graph.levels import select_size, size_of_fraction

    scores = {name: load_scores(file) for name, file in files.items()}
    first, file = next(iter(scores.values())), next(iter(files.values()))
    recorded = first.provenance.model
    for name, file_scores in scores.items():
        model = file_scores.provenance.model
        if recorded is not None and model is not None and model.has_other_weights(recorded):
            raise CircuitsError(
                f"{files[name]}: of another model than {file}; --across compares circuits of one, "
                "and without it checkpoints are compared"
            )
    hooked = load_scored(*recorded_model(None, loading, first.provenance), file, first.provenance)
    fingerprints = {
        mark for file_scores in scores.values() for mark in file_scores.provenance.pairs or ()
    }
    pairs: dict[str, PairSet] = {}
    for name, file_scores in scores.items():
        task = use.load_task(*recorded_task(None, use.DataOptions(), file_scores.provenance))
        task_pairs = use.load_pairs(
            task, hooked, n, split or use.unseen_split(file_scores.provenance), options.seed
        )
        use.warn_of_seen(task_pairs, fingerprints, "scored on")
        pairs[name] = task_pairs
    result = cross_tasks(
        hooked,
        {
            name: select_size(file_scores, size_of_fraction(file_scores, fraction))
            for name, file_scores in scores.items()
        },
        pairs,
        n_resamples=n_resamples,
        options=options,
    )
    output = result.save(out / "cross_tasks.json")
    typer.echo("\n".join(result.lines()))
    use.echo_outputs(output)
