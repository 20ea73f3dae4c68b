"""`--ranking auto`: the ranking chosen on pairs of its own, and how verbs say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, cast

import typer

from circuits.cli.steps import step
from circuits.errors import CircuitsError
from circuits.options.choices import Ablation, Strategy
from circuits.options.choices import Ranking as RankingName
from circuits.options.circuit import CircuitOptions

if TYPE_CHECKING:
    from circuits.evaluation import RankingChoice, RankingTrials, Reliability
    from circuits.graph import AnyCircuit, AnyScores
    from circuits.models import HookedModel
    from circuits.options.run import RunOptions
    from circuits.runtime.resume import Pieces
    from tasks.named_splits import Split
    from tasks.pairs import PairSet
    from tasks.task import Task

LEAST = 8
"""The least pairs to choose a ranking on."""


def with_others(
    task: Task,
    model: HookedModel,
    pairs: PairSet,
    seed: int,
    fingerprints: Iterable[str] = (),
    *,
    enough: int = CircuitOptions.choose,
) -> tuple[PairSet, PairSet | None]:
    """The pairs to go on with, and others to choose a ranking on.

    More are drawn of the same split where the task has them, and the pairs stay as they are. Else a
    quarter of them is split off, or none where that would be fewer than LEAST.

    enough: pairs to choose it on, as many as are asked for.
    fingerprints: fingerprints of pairs that will not do for the choice.
    """
    avoided = {*pairs.fingerprints, *fingerprints}
    try:
        larger_set = task.pairs(
            model.tokenizer,
            n=len(pairs) + enough,
            split=cast("Split", pairs.split),
            seed=seed,
            n_ctx=model.n_ctx,
        )
    except CircuitsError:  # the split has no more
        larger_set = None
    if larger_set is not None:
        choice_pairs = larger_set.without(avoided)[:enough]
        if len(choice_pairs) >= min(LEAST, enough):
            return pairs, replace(larger_set, pairs=choice_pairs)
    return split_off(pairs, fingerprints, enough=enough)


def split_off(
    pairs: PairSet, fingerprints: Iterable[str] = (), *, enough: int
) -> tuple[PairSet, PairSet | None]:
    """The last pairs, at most a quarter of all, to choose a ranking on; None for fewer than LEAST.

    enough: as many as are asked for.
    fingerprints: fingerprints of pairs that will not do for the choice.
    """
    count = min(enough, len(pairs) // 4)
    if count < LEAST or {*pairs.fingerprints[-count:]} & {*fingerprints}:
        return pairs, None
    return pairs[:-count], pairs[-count:]


@dataclass(frozen=True)
class Picked:
    """The ranking taken. choice: made on other pairs, if one was. lines: what is said of it."""

    ranking: RankingName
    positive_ratio: float | None
    choice: RankingChoice | None = None
    lines: Sequence[str] = ()

    def say(self) -> None:
        """Print the lines."""
        typer.echo("\n".join(self.lines))

    def select(self, scores: AnyScores, size: int, strategy: Strategy | None) -> AnyCircuit:
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


@dataclass(frozen=True)
class Chooser:
    """Chooses a ranking by scores: the arguments of `choose_ranking` beside them.

    others: pairs to choose it on; None where there are too few.
    """

    model: HookedModel
    others: PairSet | None
    trials: RankingTrials
    metric: str | None
    options: RunOptions
    ablation: Ablation = "corrupted"
    resume: Pieces | None = None

    def pick(self, scores: AnyScores) -> Picked:
        """The ranking chosen on the other pairs, or by absolute score where there are none, or
        where they do not tell.
        """
        return _picked(self.outcome(scores))

    def outcome(self, scores: AnyScores) -> dict[str, object]:
        """The choice, or why there is none, as JSON."""
        from circuits.errors import UndefinedMetricError
        from circuits.evaluation import choose_ranking

        if self.others is None:
            return {"reason": "there are too few pairs to choose it on others"}
        try:
            with step("choosing the ranking"):
                choice = choose_ranking(
                    self.model,
                    scores,
                    self.others,
                    self.trials,
                    metric=self.metric,
                    ablation=self.ablation,
                    options=self.options,
                    resume=self.resume,
                )
        except UndefinedMetricError as error:
            return {"reason": str(error)}
        return {"choice": choice.model_dump(mode="json")}

    def circuit(self, scores: AnyScores) -> AnyCircuit:
        """The circuit by what is picked; says which ranking, and how the others compare."""
        picked = self.pick(scores)
        picked.say()
        return picked.select(scores, self.trials.size, self.trials.strategy)


class Ranking:
    """The ranking of a run: the one that is named, or what the first scores asked with bring about,
    which work that was killed finds again.
    """

    def __init__(
        self,
        ranking: RankingName | None,
        positive_ratio: float | None,
        pieces: Pieces,
        chooser: Chooser | None,
    ) -> None:
        """ranking: None where it is to be chosen.

        chooser: None where nothing is chosen, and circuits are by absolute score.
        """
        self._taken = Picked("absolute", None) if chooser is None else None
        if ranking is not None:
            self._taken = Picked(ranking, positive_ratio)
        self._pieces, self._chooser = pieces, chooser

    def __call__(self, scores: AnyScores) -> Picked:
        """What was taken, or is taken by these scores."""
        if self._taken is None:
            chooser = self._chooser
            assert chooser is not None
            identity = {
                "method": scores.method,
                **scores.provenance.model_dump(
                    mode="json", include={"settings", "metric", "model"}
                ),
                "choice": None if chooser.others is None else chooser.others.fingerprint,
                "trials": asdict(chooser.trials),
                "seed": chooser.options.seed,
            }
            outcome = self._pieces.value(identity, lambda: chooser.outcome(scores))
            assert isinstance(outcome, dict)  # as `outcome` gives it
            self._taken = _picked(outcome)
        return self._taken

    def name(self, scores: AnyScores) -> tuple[RankingName, float | None]:
        """Its name, and its share by signed score."""
        picked = self(scores)
        return picked.ranking, picked.positive_ratio


def say_look(reliability: Reliability) -> None:
    """Say what one look of `--until-stable` finds."""
    typer.echo(
        f"{reliability.n} pairs: Jaccard index with others {reliability.likeness} "
        f"({reliability.ranking})"
    )


def _picked(outcome: Mapping[str, object]) -> Picked:
    """From what `Chooser.outcome` says."""
    from circuits.evaluation import RankingChoice

    if "choice" not in outcome:
        note = f"ranking: absolute, for {outcome['reason']} (--ranking names another)"
        return Picked("absolute", None, None, (note,))
    choice = RankingChoice.model_validate(outcome["choice"])
    lines = (
        f"ranking chosen on {choice.n} other pairs ({choice.split}), circuits of {choice.size}:",
        *(
            f"  {trial.name:<12} f {trial.f!s:<24} CMD {trial.area_abs_gap}"
            for trial in choice.trials
        ),
        f"  taken: {choice.taken.name}; {choice.reason}",
    )
    return Picked(choice.ranking, choice.positive_ratio, choice, lines)


def show_inlets(circuit: AnyCircuit) -> None:
    """Say which edges of negative score the rest stands on, put in or left out."""
    selection = circuit.provenance.selection
    if selection is None:
        return
    for edges, reason in (
        (selection.joined, "put in in spite of its negative score"),
        (
            selection.missing,
            "left out for its negative score (--strategy widest-path puts it in)",
        ),
    ):
        for edge in edges:
            typer.echo(f"note: {edge} is {reason}; half or more of all score stands on it")
