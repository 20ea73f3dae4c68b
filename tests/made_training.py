"""What is trained in a made run: the comparison of LoRAs, and the log of the fine-tuning."""

from __future__ import annotations

import math
from itertools import combinations

from circuits.importance import LayerImportance
from circuits.statistics.estimate import Estimate
from circuits.tuning.lora_differences import Difference
from circuits.tuning.lora_result import LoraComparison, LoraRun, RateChoice, RateTrial
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.rouge import SummaryMeans
from circuits.tuning.training_log import TrainingLog, TrainingStep, ValidationStep


def estimate(value: float, half: float = 0.03, n: int = 100) -> Estimate:
    return Estimate(value, value - half, value + half, n)


def lora() -> LoraComparison:
    """A comparison in which the standard condition is best by loss, seed by seed."""
    targets = (
        LoraTarget.standard(),
        LoraTarget("attention-kl", (0, 2), criterion="attention-kl"),
        LoraTarget("circuit", (0, 1), criterion="edges"),
        LoraTarget.random(2),
    )
    runs = []
    for place, target in enumerate(targets):
        for seed in (0, 1):
            score = 0.70 - 0.03 * place + 0.02 * seed
            means = SummaryMeans(score, score - 0.2, score, 0.1, score + 0.05, 2 - score)
            runs.append(
                LoraRun(
                    condition=target.name,
                    seed=seed,
                    layers=target.choose(4, seed),
                    ranks={
                        f"transformer.h.{layer}.attn.c_attn": 8 if place == 0 else 16
                        for layer in target.choose(4, seed)
                    },
                    parameters=65_536,
                    learning_rate=1e-3 if place else 3e-3,
                    seconds=8.0,
                    scores=means,
                    fitted=1.1 - 0.05 * place,
                    validation=tuple(
                        ValidationStep(step, means.loss + 0.9 - step / 60, 0.5)
                        for step in (0, 20, 40, 60)
                    ),
                    adapter=f"{target.name}/seed-{seed}/step-60",
                )
            )
    return LoraComparison(
        targets=targets,
        runs=tuple(runs),
        base=SummaryMeans(0.05, 0.05, 0.05, 0.05, 0.05, 0.05),
        budget=65_536,
        steps=60,
        held_out=60,
        importance=(
            LayerImportance("attention-kl", (0.4, 0.1, 0.3, 0.2)),
            LayerImportance("edges", (3.0, 2.0, 0.5, 0.1)),
        ),
        rates=(
            RateChoice("standard", (RateTrial(1e-3, 1.4), RateTrial(3e-3, 1.3)), steps=30, seed=2),
            RateChoice("random", (RateTrial(1e-3, 1.4), RateTrial(3e-3, math.nan)), 30, 2),
        ),
        differences=tuple(
            Difference(
                one,
                other,
                score,
                Estimate(0.03 * apart, 0.03 * apart - 0.05, 0.03 * apart + 0.07, 60),
            )
            for one, other in combinations([*(target.name for target in targets), "none"], 2)
            for score, apart in (("ROUGE-L", 1 if other != "none" else 20), ("held-out loss", -1))
        ),
    )


def training_log() -> TrainingLog:
    """300 steps of falling loss, validated every 50."""
    steps = [
        TrainingStep(step, 4.6 * 0.985**step + 0.1, 1 - 0.65 * 0.985**step, 1e-3)
        for step in range(1, 301)
    ]
    validation = [ValidationStep(s.step, s.loss, s.token_accuracy) for s in steps[49::50]]
    return TrainingLog(
        steps=tuple(steps), validation=tuple(validation), seconds=90.0, finished=True
    )
