"""One verdict over other samples and conditions."""

from __future__ import annotations

import math

import pytest
import torch

from circuits.evaluation import stability_verdict
from circuits.evaluation.results import CircuitEvaluation, CircuitSummary, Undefined
from circuits.evaluation.robustness import Condition
from circuits.evaluation.stability import Stability
from circuits.evaluation.stability_verdict import TOLERANCE
from circuits.statistics.estimate import Estimate

CHANCE = Estimate(0.0, -0.1, 0.1, 30)


def condition(value, half, control=CHANCE):
    return Condition("m", Estimate(value, value - half, value + half, 30), control)


def evaluated(likeness=None, **conditions):
    if likeness is not None:
        halves, resamples = (Estimate(end, end, end, 200) for end in likeness)
        likeness = Stability("edge", resamples, halves, CHANCE, {}, 0.1, (), 0, 200)
    return CircuitEvaluation(
        circuit=CircuitSummary(
            level="edge",
            size=5,
            fraction=0.1,
            n_nodes=4,
            ablation="corrupted",
            faithfulness=None,
            degenerate_reason=None,
            choice=None,
        ),
        faithfulness=Undefined(undefined_reason="not asked"),
        robustness=conditions,
        stability=likeness,
    )


@pytest.mark.parametrize(
    "likeness, conditions, verdict, standings",
    [
        ((0.85, 0.95), {"swap": (0.85, 0.05)}, "stable", ["holds"]),
        ((0.85, 0.95), {}, "stable", []),
        (None, {"swap": (0.85, 0.05), "seed=7": (1.1, 0.1)}, "stable", ["holds", "holds"]),
        ((0.4, 0.5), {"swap": (0.85, 0.05)}, "not stable", ["holds"]),
        ((0.85, 0.95), {"swap": (0.5, 0.1)}, "not stable", ["loses"]),
        ((0.7, 0.9), {"swap": (0.85, 0.05)}, "not shown", ["holds"]),
        ((0.85, 0.95), {"swap": (0.8, 0.4)}, "not shown", ["not told"]),
    ],
)
def test_what_is_shown_and_what_is_not(likeness, conditions, verdict, standings):
    made = {name: condition(*figures) for name, figures in conditions.items()}
    found = stability_verdict(evaluated(likeness, evaluate=condition(0.9, 0.05), **made))
    assert found.verdict == verdict and str(found).startswith(f"{verdict}: ")
    assert [one.standing for one in found.conditions] == standings
    assert all(f"{name}: " in str(found) for name in conditions)


def test_no_better_than_chance_does_not_hold_and_undefined_is_said():
    random = Estimate(0.85, 0.75, 0.95, 30)
    undefined = Condition("m", None, None, undefined_reason="equal")
    found = stability_verdict(
        evaluated(evaluate=condition(0.9, 0.05), easy=condition(0.9, 0.05, random), none=undefined)
    )
    assert [one.standing for one in found.conditions] == ["not told", "undefined"]
    assert found.verdict == "not shown" and "none: f is undefined" in str(found)
    assert stability_verdict(evaluated(evaluate=condition(0.9, 0.05))) is None


def test_the_interval_of_a_difference_covers_as_it_says():
    """Skewed means of two independent samples: 95 % of intervals hold the true difference."""
    draw = torch.Generator().manual_seed(0)
    trials, sizes, within = 2000, (40, 25), 0
    samples = [-torch.rand(trials, n, generator=draw, dtype=torch.float64).log() for n in sizes]
    ends = []
    for sample in samples:  # exponential: the exact interval of its mean is by chi squared
        n = sample.shape[1]
        chi = torch.distributions.Gamma(n, 1.0).sample((400_000,)).sort().values
        low, high = float(chi[int(0.975 * len(chi))]) / n, float(chi[int(0.025 * len(chi))]) / n
        mean = sample.mean(1)
        ends.append([Estimate(m, m / low, m / high, n) for m in mean.tolist()])
    for first, second in zip(*ends, strict=True):
        gap = first.minus(second)
        within += gap.low <= 0 <= gap.high
        assert gap.n == 25 and gap.low < gap.value < gap.high
    assert within / trials == pytest.approx(0.95, abs=0.015)
    assert 0 < TOLERANCE < 1 and not math.isnan(gap.value)
