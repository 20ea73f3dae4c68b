"""The stages about one checkpoint: the task, its scores, its circuit, how far that holds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from circuits.attribution import attribute
from circuits.errors import TooFewError, UndefinedMetricError
from circuits.evaluation import (
    CheckpointEvaluation,
    EvalConfig,
    Evaluation,
    PairsUsed,
    RankingTrials,
    TaskPerformance,
    choose_ranking,
    evaluate,
    null_model,
    task_performance,
)
from circuits.graph import AnyCircuit, EdgeScores, select
from circuits.intervention.patching import PatchSpec, patch
from circuits.options.circuit import CircuitOptions
from circuits.options.declared import narrowed
from circuits.pipeline.context import RunContext
from circuits.pipeline.recipe import plain
from circuits.pipeline.settings import attribution_of
from circuits.runtime.resume import PartialResults, Pieces

_log = logging.getLogger(__name__)


def check_task(run: RunContext, name: str) -> None:
    """Whether the checkpoint does the task on the pairs for scoring.

    `attribution.require_accuracy` is of the last checkpoint: those before it may be learning still.
    """
    section = run.recipe.attribution

    def work() -> dict[str, object]:
        performance = task_performance(
            run.model(name),
            run.data.pairs("score"),
            metric=section.metric,
            options=run.options(section.batch_size),
        )
        return performance.model_dump(mode="json")

    record = run.store.stage(
        f"performance/{name}",
        [section.metric, section.batch_size, run.recipe.seed],
        work,
        after=["pairs", "checkpoints"],
    )
    performance = TaskPerformance.model_validate(record)
    for line in performance.lines():
        _log.log(
            logging.WARNING if line.startswith("warning") else logging.INFO, "%s: %s", name, line
        )
    if section.require_accuracy is not None and name == run.last:
        performance.require_accuracy(section.require_accuracy)


def score(run: RunContext, name: str, *, after: Sequence[str] = ("pairs", "checkpoints")) -> None:
    """Scores of every edge, example by example.

    after: the stages that made the pairs and the model.
    """
    section = run.recipe.attribution
    method = attribution_of(run.recipe)

    def work() -> None:
        so_far = run.store.path(".stages", f"scores-{name}.partial")
        with PartialResults(so_far, replace=True) as resume:
            attribute(
                run.model(name),
                run.data.pairs("score"),
                method,
                metric=section.metric,
                options=replace(run.options(section.batch_size), recompute=section.recompute),
                per_example=True,
                resume=resume,
            ).save(run.store.path("scores"), name)

    run.store.stage(
        f"scores/{name}",
        plain(replace(section, require_accuracy=None, recompute=None)),
        work,
        after=after,
        files=[f"scores/{name}.safetensors", f"scores/{name}.json"],
    )


def choose_circuit(run: RunContext, name: str) -> None:
    """The circuit that the recipe asks for."""
    section = run.recipe.circuit
    identity = [plain(section), run.recipe.evaluation.ablation, run.recipe.seed]

    def work() -> None:
        scores = run.scores(name)
        size = max(1, round(section.fraction * scores.layout.n_edges))
        circuit: AnyCircuit
        if section.ranking == "auto":
            circuit = _choose_ranking(run, name, scores, size)
        else:
            circuit = select(
                scores,
                size=size,
                strategy=section.strategy or "widest-path",
                ranking=section.ranking,
                positive_ratio=section.positive_ratio,
            )
        circuit.save(run.store.path("circuits", f"{name}.json"))

    run.store.stage(
        f"circuits/{name}",
        plain(replace(section, choose=CircuitOptions.choose))
        if section.ranking != "auto"
        else identity,
        work,
        after=[f"scores/{name}"],
        files=[f"circuits/{name}.json"],
    )


def _choose_ranking(run: RunContext, name: str, scores: EdgeScores, size: int) -> AnyCircuit:
    """By the ranking that is most faithful on pairs of the scored split that were not scored on."""
    section, scored = run.recipe.circuit, run.data.pairs("score")
    try:
        larger_set = run.data.pairs_of("validation", len(scored) + section.choose)
        choice_pairs = larger_set.without(scored.fingerprints)[: section.choose]
        return choose_ranking(
            run.model(name),
            scores,
            replace(larger_set, pairs=choice_pairs),
            RankingTrials(size, section.strategy),
            metric=run.recipe.attribution.metric,
            ablation=run.recipe.evaluation.ablation,
            options=run.options(run.recipe.evaluation.batch_size),
        ).select(scores)
    except (UndefinedMetricError, TooFewError) as error:
        _log.warning("%s: the ranking is absolute, for none can be chosen: %s", name, error)
        return select(scores, size=size, strategy=section.strategy or "widest-path")


def evaluate_circuit(run: RunContext, name: str) -> None:
    """All that is said of one checkpoint's circuit."""
    section = run.recipe.evaluation

    metric = section.metric or run.recipe.attribution.metric
    config = narrowed(section, EvalConfig, metric=metric)

    def work(resume: Pieces) -> dict[str, object]:
        evaluation = evaluate(
            run.model(name),
            run.scores(name),
            run.circuit(name),
            run.data.pairs("evaluate"),
            config=config,
            conditions={condition: run.data.pairs(condition) for condition in run.data.conditions},
            options=run.options(section.batch_size),
            resume=resume,
        )
        null = None
        if config.null_model is not None and evaluation.curves is not None:
            null = null_model(
                *(run.model(name), run.scores(name), run.circuit(name)),
                *(run.data.pairs("score"), run.data.pairs("evaluate")),
                config=config,
                options=run.options(section.batch_size),
                resume=resume,
            )
        return CheckpointEvaluation(**dict(evaluation), null_model=null).model_dump(mode="json")

    run.store.stage_in_pieces(
        f"evaluation/{name}",
        [plain(section), metric, run.recipe.seed],
        work,
        after=["pairs", f"circuits/{name}"],
    )


def write_evaluation(run: RunContext) -> None:
    """`evaluation.json`: every checkpoint's part, and what pairs were used."""
    results = run.store.results
    names = ("score", "evaluate", *run.data.conditions)
    Evaluation(
        order=tuple(run.checkpoints),
        checkpoints={
            name: CheckpointEvaluation.model_validate(
                {
                    **_object(results[f"evaluation/{name}"]),
                    "performance": results[f"performance/{name}"],
                }
            )
            for name in run.checkpoints
        },
        quality=results.get("quality", {}),
        pairs={name: PairsUsed.of(run.data.pairs(name)) for name in names},
    ).save(run.store.path("evaluation.json"))


def patch_activations(run: RunContext) -> None:
    """Exact activation patching of the last checkpoint: what the scores only estimate."""
    section = run.recipe.patching
    if section is None:
        return

    def work() -> None:
        so_far = run.store.path(".stages", "patching.partial")
        with PartialResults(so_far, replace=True) as resume:
            patching = patch(
                run.model(run.last),
                run.data.pairs("evaluate")[: section.pairs],
                narrowed(section, PatchSpec),
                metrics=run.recipe.attribution.metric,
                options=run.options(section.batch_size),
                resume=resume,
            )
            patching.save(run.store.path("patching.json"))

    run.store.stage(
        "patching",
        [plain(section), run.recipe.attribution.metric],
        work,
        after=["pairs", "checkpoints"],
        files=["patching.json"],
    )


def _object(result: object) -> dict[str, object]:
    assert isinstance(result, dict)  # what the stage gave, or its record
    return result
