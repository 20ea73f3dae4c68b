"""The stages that compare checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from circuits.comparison import compare, cross_evaluate
from circuits.model_diff import ModelDiffs, diff_models
from circuits.model_diff.hidden import representation_trajectory
from circuits.model_diff.restoration import restore_neurons
from circuits.options.run import RunOptions
from circuits.pipeline.context import BASE, RunContext
from circuits.pipeline.recipe import plain
from circuits.runtime.resume import Pieces
from tasks.text.key_positions import key_positions


def compare_scores(run: RunContext) -> None:
    """What changed between the edge scores of the checkpoints."""
    section = run.recipe.comparison

    def work(resume: Pieces) -> None:
        evolution = compare(
            [run.scores(name) for name in run.checkpoints],
            names=list(run.checkpoints),
            sizes=section.sizes,
            n_resamples=section.n_resamples,
            options=RunOptions(seed=run.recipe.seed),
            resume=resume,
        )
        evolution.save(run.store.path("comparison.json"))

    run.store.stage_in_pieces(
        "comparison",
        [list(section.sizes), section.n_resamples, run.recipe.seed],
        work,
        after=[f"scores/{name}" for name in run.checkpoints],
        files=["comparison.json"],
    )


def cross_circuits(
    run: RunContext, names: Sequence[str] | None = None, file: str = "cross_evaluation"
) -> None:
    """Every model's circuit on every model: all checkpoints, or those of these names.

    file: the result's, without its ending, and the stage's name.
    """
    names = names or list(run.checkpoints)
    section = run.recipe.comparison
    if section.cross_evaluation is None:
        return
    pairs = run.data.pairs("evaluate")[: section.cross_evaluation]

    def work(resume: Pieces) -> None:
        crossed = cross_evaluate(
            {name: partial(run.model, name) for name in names},
            {name: run.circuit(name) for name in names},
            pairs,
            metric=run.recipe.attribution.metric,
            n_resamples=section.n_resamples,
            options=run.options(run.recipe.evaluation.batch_size),
            resume=resume,
        )
        crossed.save(run.store.path(f"{file}.json"))

    run.store.stage_in_pieces(
        file,
        [section.cross_evaluation, section.n_resamples, run.recipe.seed],
        work,
        after=["pairs", *(f"circuits/{name}" for name in names)],
        files=[f"{file}.json"],
    )


def diff_checkpoints(run: RunContext) -> None:
    """How the last checkpoint differs inside from the base, and hidden states over all of them.

    On the pairs for scoring: the LoRAs whose layers are chosen by it are judged on others.
    """
    section = run.recipe.model_diff
    if section is None:
        return

    def work(resume: Pieces) -> None:
        pairs = run.data.pairs("score")[: section.documents]
        options = run.options(section.batch_size)
        diff = diff_models(
            run.model(run.last),
            run.model(BASE),
            pairs,
            key_positions=key_positions(run.data.tokenizer, pairs),
            options=options,
            resume=resume,
        ).renamed(run.last, BASE)
        trajectory = representation_trajectory(
            {name: partial(run.model, name) for name in run.checkpoints},
            pairs,
            options=options,
            resume=resume,
        )
        ModelDiffs(
            task=pairs.task,
            split=pairs.split,
            models=run.sources,
            comparisons=(diff,),
            trajectory=trajectory,
        ).save(run.store.path("model_diff.json"))

    run.store.stage_in_pieces(
        "model_diff",
        [plain(replace(section, restore=None)), run.recipe.seed],
        work,
        after=["pairs", "checkpoints"],
        files=["model_diff.json"],
    )


def put_neurons_back(run: RunContext) -> None:
    """What is left of fine-tuning where neurons of the last checkpoint do as the base's."""
    section = run.recipe.model_diff
    if section is None or section.restore is None:
        return

    def work(resume: Pieces) -> None:
        restore_neurons(
            run.model(run.last),
            run.model(BASE),
            run.data.pairs("evaluate"),
            run.data.pairs("score")[: section.documents],
            config=section.restore,
            metric=run.recipe.attribution.metric,
            options=run.options(section.batch_size),
            resume=resume,
        ).renamed(run.last, BASE).save(run.store.path("restoration.json"))

    run.store.stage_in_pieces(
        "restoration",
        [plain(section), run.recipe.attribution.metric, run.recipe.seed],
        work,
        after=["pairs", "checkpoints"],
        files=["restoration.json"],
    )
