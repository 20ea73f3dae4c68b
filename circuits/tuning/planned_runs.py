"""Which trainings a comparison of LoRA targets is made of: trials of learning rates, then runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from circuits.options.tuning import FinetuneSettings, LoraProtocol
from circuits.tuning.lora_result import RateChoice, TrialResult
from circuits.tuning.lora_targets import LoraTarget


@dataclass(frozen=True)
class PlannedRun:
    """A run to come, or a trial of a learning rate.

    rate: None where the condition has its own, or the protocol's.
    draw: which of the draws of layers with this seed.
    """

    target: LoraTarget
    seed: int
    rate: float | None
    draw: int = 0

    def __str__(self) -> str:
        suffix = f", draw {self.draw}" if self.draw else ""
        return f"LoRA {self.target.name}, seed {self.seed}{suffix}"

    @property
    def folder(self) -> str:
        """Where a run is kept, in the comparison's folder."""
        suffix = f"-draw-{self.draw}" if self.draw else ""
        return f"{self.target.name}/seed-{self.seed}{suffix}"

    @property
    def trial_folder(self) -> str:
        """Where a trial is kept."""
        return f"{self.target.name}/rate-{self.rate:g}"


def planned_trials(targets: Sequence[LoraTarget], protocol: LoraProtocol) -> list[PlannedRun]:
    """Every learning rate of every condition without its own, with a seed that no run has."""
    seed = next(seed for seed in count() if seed not in protocol.seeds)
    return [
        PlannedRun(target, seed, rate)
        for target in targets
        if target.learning_rate is None
        for rate in protocol.learning_rates
    ]


def rate_choices(
    trials: Sequence[PlannedRun], results: Sequence[TrialResult]
) -> tuple[RateChoice, ...]:
    """What came of the trials, those of each condition together."""
    by_condition: dict[str, list[TrialResult]] = {}
    for trial, result in zip(trials, results, strict=True):
        by_condition.setdefault(trial.target.name, []).append(result)
    return tuple(
        RateChoice(
            name,
            tuple(trial_result.trial for trial_result in trial_results),
            trial_results[0].steps,
            trial_results[0].seed,
        )
        for name, trial_results in by_condition.items()
    )


def planned_runs(
    targets: Sequence[LoraTarget], protocol: LoraProtocol, choices: Sequence[RateChoice]
) -> list[PlannedRun]:
    """Every run, seed by seed."""
    rates = {choice.condition: choice.rate for choice in choices}
    return [
        PlannedRun(target, seed, rates.get(target.name), draw)
        for seed in protocol.seeds
        for target in targets
        for draw in range(protocol.draws_of(seed, random=target.draw is not None))
    ]


def run_settings(planned: PlannedRun, protocol: LoraProtocol) -> FinetuneSettings:
    """How a run is trained: what its condition says, then the rate that was tuned."""
    training, target = protocol.training, planned.target
    return replace(
        training,
        seed=planned.seed,
        learning_rate=target.learning_rate or planned.rate or training.learning_rate,
        batch_size=target.batch_size or training.batch_size,
    )


def trial_settings(planned: PlannedRun, protocol: LoraProtocol) -> FinetuneSettings:
    """How a trial is trained: as a run, in its own number of steps, with a loss at the end alone
    and no checkpoint on the way.
    """
    settings = run_settings(planned, protocol)
    steps = protocol.tuning_steps or settings.steps
    return replace(
        settings,
        steps=steps,
        warmup_steps=min(settings.warmup_steps or 0, steps),
        validate_every=steps,
        checkpoint_steps=(),
        log_checkpoints=None,
    )
