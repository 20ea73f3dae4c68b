"""`--ranking auto`: the ranking chosen on pairs of its own, and how verbs say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import typer

from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.evaluation import RankingChoice, Reliability
    from circuits.graph import AnyCircuit, AnyScores
    from circuits.models import HookedModel
    from circuits.runtime.resume import Pieces
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
            n_ctx=model.n_ctx,
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


@dataclass(frozen=True)
class Picked:
    """The ranking taken. choice: how, if it was chosen. lines: what is said of it."""

    ranking: str
    positive_ratio: float | None
    choice: RankingChoice | None
    lines: Sequence[str]

    def say(self) -> None:
        """Print the lines."""
        typer.echo("\n".join(self.lines))

    def select(self, scores: AnyScores, size: int, strategy: str | None) -> AnyCircuit:
        """The circuit of that size, whose provenance says how its ranking was chosen."""
        from circuits.graph.levels import select_size

        circuit = select_size(
            scores,
            size,
            strategy=strategy,
            ranking=self.ranking,
            positive_ratio=self.positive_ratio,
        )
        return circuit if self.choice is None else circuit.chosen_by(self.choice)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        choice = None if self.choice is None else self.choice.to_dict()
        return {**vars(self), "choice": choice, "lines": list(self.lines)}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Picked:
        """What `to_json` gave."""
        from pydantic import TypeAdapter

        from circuits.graph.findings import RankingChoice

        choice = kept["choice"]
        if choice is not None:
            choice = TypeAdapter(RankingChoice).validate_python(choice)
        return cls(**{**kept, "choice": choice})


def pick(
    model: HookedModel, scores: AnyScores, others: PairSet | None, size: int, **how: Any
) -> Picked:
    """The ranking chosen on the other pairs, or by absolute score where there are none, or where
    they do not tell.

    how: rule, metric, ablation, batch_size, seed, as for `choose_ranking`.
    """
    from circuits.errors import UndefinedMetricError
    from circuits.evaluation import choose_ranking

    why = "there are too few pairs to choose it on others"
    if others is not None:
        try:
            choice = choose_ranking(model, scores, others, size=size, **how)
        except UndefinedMetricError as error:
            why = str(error)
        else:
            return Picked(choice.ranking, choice.positive_ratio, choice, _lines(choice))
    said = f"ranking: absolute, for {why} (--ranking names another)"
    return Picked("absolute", None, None, (said,))


def chosen_circuit(
    model: HookedModel, scores: AnyScores, others: PairSet | None, size: int, **how: Any
) -> AnyCircuit:
    """The circuit by what `pick` takes; says which, and how the rankings compare."""
    picked = pick(model, scores, others, size, **how)
    picked.say()
    return picked.select(scores, size, how.get("strategy"))


class Ranking:
    """The ranking of a run: the one that is named, or what the first scores asked with bring about,
    which work that was killed finds again.
    """

    def __init__(
        self,
        named: str,
        positive_ratio: float | None,
        pieces: Pieces,
        how: Mapping[str, Any] | None,
    ) -> None:
        """How: the arguments of `pick` by name but the scores; None where nothing is chosen."""
        absolute = Picked("absolute", None, None, ())
        self._taken = absolute if how is None else None
        if named != AUTO:
            self._taken = Picked(named, positive_ratio, None, ())
        self._pieces, self._how = pieces, how

    def __call__(self, scores: AnyScores) -> Picked:
        """What was taken, or is taken by these scores."""
        if self._taken is None:
            assert self._how is not None
            others, how = self._how["others"], self._how
            identity = {
                "method": scores.method,
                **scores.provenance.model_dump(
                    mode="json", include={"settings", "metric", "model"}
                ),
                "choice": None if others is None else others.fingerprint,
                **{name: how[name] for name in ("size", "strategy", "seed")},
            }
            made = self._pieces.value(identity, lambda: pick(scores=scores, **how).to_json())
            self._taken = Picked.from_json(made)
        return self._taken

    def name(self, scores: AnyScores) -> tuple[str, float | None]:
        """Its name, and its share by signed score."""
        taken = self(scores)
        return taken.ranking, taken.positive_ratio


def say_look(found: Reliability) -> None:
    """Say what one look of `--until-stable` finds."""
    typer.echo(f"{found.n} pairs: others would share {found.likeness} ({found.ranking})")


def _lines(choice: RankingChoice) -> tuple[str, ...]:
    taken = next(
        one
        for one in choice.tried
        if (one.ranking, one.positive_ratio) == (choice.ranking, choice.positive_ratio)
    )
    return (
        f"ranking chosen on {choice.n} other pairs ({choice.split}), circuits of {choice.size}:",
        *(f"  {one.name:<12} f {one.f!s:<24} CMD {one.cmd}" for one in choice.tried),
        f"  taken: {taken.name}; {choice.why}",
    )


def show_inlets(circuit: AnyCircuit) -> None:
    """Say which edges of negative score the rest stands on, put in or left out."""
    selection = circuit.provenance.selection
    if selection is None:
        return
    for edges, said in (
        (selection.joined, "put in in spite of its negative score"),
        (
            selection.missing,
            "left out for its negative score (--strategy widest-path puts it in)",
        ),
    ):
        for edge in edges:
            typer.echo(f"note: {edge} is {said}; half or more of all score stands on it")
