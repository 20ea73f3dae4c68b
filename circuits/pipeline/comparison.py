"""The stages that hold checkpoints against each other."""

from __future__ import annotations

from functools import partial

from circuits.evolution import compare, cross_evaluate, internals
from circuits.evolution.hidden import hidden_path
from circuits.files import write_json
from circuits.pipeline.context import BASE, RunContext
from circuits.unfinished import Pieces
from tasks.landmarks import landmarks


def compare_scores(run: RunContext) -> None:
    """What changed between the edge scores of the checkpoints."""
    section = run.recipe.evolution

    def work(unfinished: Pieces) -> None:
        found = compare(
            [run.scores(name) for name in run.checkpoints],
            names=list(run.checkpoints),
            sizes=section.sizes,
            seed=run.recipe.seed,
            n_bootstrap=section.resamples,
            unfinished=unfinished,
        )
        write_json(run.store.path("evolution.json"), found.to_dict())

    run.store.stage_in_pieces(
        "evolution",
        [list(section.sizes), section.resamples, run.recipe.seed],
        work,
        after=[f"scores/{name}" for name in run.checkpoints],
        files=["evolution.json"],
    )


def cross_circuits(run: RunContext) -> None:
    """Every checkpoint's circuit on every checkpoint."""
    section = run.recipe.evolution
    if section.crossing is None:
        return
    pairs = run.data.pairs("evaluate")[: section.crossing]

    def work(unfinished: Pieces) -> None:
        found = cross_evaluate(
            {name: partial(run.model, name) for name in run.checkpoints},
            {name: run.circuit(name) for name in run.checkpoints},
            pairs,
            metric=run.recipe.attribution.metric,
            batch_size=run.recipe.evaluation.batch_size,
            resamples=section.resamples,
            seed=run.recipe.seed,
            progress=run.progress,
            unfinished=unfinished,
        )
        write_json(run.store.path("crossing.json"), found.to_dict())

    run.store.stage_in_pieces(
        "crossing",
        [section.crossing, section.resamples, run.recipe.seed],
        work,
        after=["pairs", *(f"circuits/{name}" for name in run.checkpoints)],
        files=["crossing.json"],
    )


def look_inside(run: RunContext) -> None:
    """The base against the last checkpoint, and hidden states over all of them.

    On the pairs for scoring: the LoRAs that are put where this points are judged on others.
    """
    section = run.recipe.internals
    if section is None:
        return

    def work(unfinished: Pieces) -> dict[str, list[float]]:
        pairs = run.data.pairs("score")[: section.documents]
        found = internals(
            run.model(run.last),
            run.model(BASE),
            pairs,
            names=(run.last, BASE),
            landmarks=landmarks(run.data.tokenizer, pairs),
            batch_size=section.batch_size,
            seed=run.recipe.seed,
            progress=run.progress,
            unfinished=unfinished,
        ).to_dict()
        path = hidden_path(
            {name: partial(run.model, name) for name in run.checkpoints},
            pairs,
            batch_size=section.batch_size,
            progress=run.progress,
            unfinished=unfinished,
        )
        record = {**found, "split": pairs.split, "path": path.to_dict()}
        write_json(run.store.path("internals.json"), record)
        importance: dict[str, list[float]] = found["importance"]
        return importance

    run.store.stage_in_pieces(
        "internals",
        [section.model_dump(), run.recipe.seed],
        work,
        after=["pairs", "checkpoints"],
        files=["internals.json"],
    )
