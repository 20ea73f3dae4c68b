"""`--ranking auto`: the ranking chosen on pairs of its own, and how verbs say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import typer

from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.evaluation import RankingChoice
    from circuits.graph import AnyCircuit, AnyScores
    from circuits.models import HookedModel
    from tasks.pairs import PairSet
    from tasks.task import Split, Task

AUTO = "auto"
ENOUGH, LEAST = 16, 8
"""Pairs to choose a ranking on: as many as are asked for, and the least to be had for it."""


def with_others(
    task: Task,
    model: HookedModel,
    pairs: PairSet,
    seed: int,
    known: Iterable[str] = (),
) -> tuple[PairSet, PairSet | None]:
    """The pairs to go on with, and others to choose a ranking on.

    More are drawn of the same split where the task has them, and the pairs stay as they are. Else a
    quarter of them is split off, or none where that would be fewer than LEAST.

    known: fingerprints of pairs that will not do for the choice.
    """
    avoided = {*pairs.fingerprints, *known}
    try:
        more = task.pairs(
            model.tokenizer,
            n=len(pairs) + ENOUGH,
            split=cast("Split", pairs.split),
            seed=seed,
            context=model.context,
        )
    except CircuitsError:  # the split has no more
        more = None
    if more is not None:
        others = more.without(avoided)[:ENOUGH]
        if len(others) >= LEAST:
            return pairs, replace(more, pairs=others)
    count = min(ENOUGH, len(pairs) // 4)
    if count < LEAST or {*pairs.fingerprints[-count:]} & {*known}:
        return pairs, None
    return pairs[:-count], pairs[-count:]


def chosen_circuit(
    model: HookedModel, scores: AnyScores, others: PairSet | None, size: int, **how: Any
) -> AnyCircuit:
    """The circuit of the ranking chosen on the other pairs, or by absolute score where there are
    none, or where they do not tell; says which, and how the rankings compare.

    how: rule, metric, replacement, batch_size, seed, as for `choose_ranking`.
    """
    from circuits.evaluation import VanishingMetricError, choose_ranking
    from circuits.graph.levels import select_size

    why = "there are too few pairs to choose it on others"
    if others is not None:
        try:
            choice = choose_ranking(model, scores, others, size=size, **how)
        except VanishingMetricError as error:
            why = str(error)
        else:
            _show(choice)
            return choice.select(scores)
    typer.echo(f"ranking: absolute, for {why} (--ranking names another)")
    return select_size(scores, size, rule=how.get("rule"))


def _show(choice: RankingChoice) -> None:
    typer.echo(
        f"ranking chosen on {choice.n} other pairs ({choice.split}), circuits of {choice.size}:"
    )
    for one in choice.tried:
        typer.echo(f"  {one.name:<12} f {one.f!s:<24} CMD {one.cmd}")
    taken = next(
        one
        for one in choice.tried
        if (one.ranking, one.positive) == (choice.ranking, choice.positive)
    )
    typer.echo(f"  taken: {taken.name}; {choice.why}")


def show_inlets(circuit: AnyCircuit) -> None:
    """Say which edges of negative score the rest stands on, put in or left out."""
    for key, said in (
        ("joined", "put in in spite of its negative score"),
        ("missing", "left out for its negative score (--rule paths puts it in)"),
    ):
        for edge in circuit.details.get(key, ()):
            typer.echo(f"note: {edge} is {said}; half or more of all score stands on it")
