"""What a verb is not told, and the scores that it is given say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.cli.options import DataOptions
    from circuits.graph import AnyScores, Provenance
    from circuits.models import HookedModel
    from circuits.options.model import LoadOptions
    from tasks.pairs import PairSet
    from tasks.task import Task


_DISCOVERED = "scores of `circuits discover`"
"""What to give, where a verb has no flag for what the scores do not say."""


def recorded_task(
    task_name: str | None, source: DataOptions, made_from: Provenance, option: str = _DISCOVERED
) -> tuple[str, DataOptions]:
    """The task and where its examples come from: as asked for, or as the scores say."""
    if task_name:
        return task_name, source
    name = _known(None if made_from.data is None else made_from.data.task, option)
    recorded = made_from.task
    if recorded is None:
        return name, source
    return name, replace(
        source,
        data=source.data or (None if recorded.data is None else Path(recorded.data)),
        task_option=source.task_option or list(recorded.options),
    )


def recorded_model(
    model_name: str | None, loading: LoadOptions, made_from: Provenance, option: str = _DISCOVERED
) -> tuple[str, LoadOptions]:
    """The model and how to load it: as asked for, or as the scores say; their tokenizer too."""
    recorded = made_from.model
    tokenizer = loading.tokenizer or (None if recorded is None else recorded.tokenizer)
    name = model_name or _known(None if recorded is None else recorded.name, option)
    return name, replace(loading, tokenizer=tokenizer)


def scored_again(task: Task, model: HookedModel, scores: AnyScores) -> PairSet:
    """The pairs that scores were made from, made again.

    Raises:
        CircuitsError: where the task gives others now, or the scores do not say which.
    """
    from circuits.cli.options import load_pairs, split_of

    provenance = scores.provenance
    data, fingerprints = provenance.data, provenance.pairs
    if data is not None and fingerprints is not None:
        reads_file = provenance.task is not None and provenance.task.data is not None
        for number in (None, data.n) if reads_file else (data.n,):
            pairs = load_pairs(task, model, number, split_of(provenance), provenance.seed or 0)
            by_fingerprint = dict(zip(pairs.fingerprints, pairs, strict=True))
            if {*fingerprints} <= by_fingerprint.keys():
                return replace(
                    pairs, pairs=tuple(by_fingerprint[fingerprint] for fingerprint in fingerprints)
                )
    raise CircuitsError(
        "--null-model: the pairs that were scored cannot be made again from what the scores say "
        "(another file, other options, or pairs of --until-stable or --budget); in Python, give "
        "them to circuits.evaluation.null_model"
    )


def _known(recorded: str | None, option: str) -> str:
    if not recorded:
        raise CircuitsError(f"the scores do not say what they were made with; give {option}")
    return recorded
