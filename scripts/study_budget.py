"""At equal gradients: are many pairs with two points each nearer the truth than few with five?

    python scripts/study_budget.py --model smollm2-135m --task ioi:corruption=swap
    python scripts/study_budget.py --model gemma3-270m --task ioi:corruption=abc --sets 6

The truth is stood in for by the mean scores of --reference pairs, three staggered points each.
Disjoint sets of other pairs are then scored with --passes gradients each, as `circuits discover
--n` does (5 midpoints) and as `circuits discover --budget` does (two staggered points), the first
way on the first pairs of the second. Prints the relative L1 errors of both ways over all edges, and
their ratio with a 95 % interval over the sets. The reference has an error of its own, which adds to
both and brings the ratio nearer to 1. It is estimated by half the difference of its two halves; the
last column has the ratio without it, as independent errors add up in squares.
"""

from __future__ import annotations

import argparse
import math
from statistics import mean, stdev

import torch
from studies import table

import tasks
from circuits.attribution import attribute
from circuits.attribution.quadrature import STAGGERED
from circuits.models import HookedModel
from circuits.statistics import LEVEL, student_quantile
from tasks.pairs import PairSet

MIDPOINTS, POINTS, REFERENCE_POINTS = 5, 2, 3


def main() -> None:
    """Score, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", action="append", required=True, help="NAME[:KEY=VALUE,...]")
    parser.add_argument("--passes", type=int, default=100, help="gradients of a set")
    parser.add_argument("--sets", type=int, default=6, help="at least 2")
    parser.add_argument("--reference", type=int, default=300, help="pairs of the reference")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = HookedModel.from_pretrained(options.model, device=options.device)
    rows = [compared(model, task_spec, options) for task_spec in options.task]
    heads = (
        "task",
        "5 midpoints",
        "2 staggered",
        "ratio [95 %]",
        "sets below 1",
        "reference",
        "ratio without the reference's error [95 %]",
    )
    print(table(heads, rows))


def compared(model: HookedModel, named: str, given: argparse.Namespace) -> tuple[str, ...]:
    """A row of the table."""
    name, _, options = named.partition(":")
    task = tasks.load(name, **dict(option.split("=", 1) for option in options.split(",") if option))
    n_staggered, n_midpoint = given.passes // POINTS, given.passes // MIDPOINTS
    n = given.reference + given.sets * n_staggered
    pairs = task.pairs(model.tokenizer, n, split="train", seed=0, n_ctx=model.n_ctx)
    middle = given.reference // 2
    halves = [
        scored(model, pairs[start : start + middle], REFERENCE_POINTS, STAGGERED)
        for start in (0, middle)
    ]
    truth = (halves[0] + halves[1]) / 2
    reference_error = float((halves[0] - halves[1]).abs().sum() / 2 / truth.abs().sum())
    print(f"{named}: reference {reference_error:.3f}", flush=True)
    errors = []
    for start in range(2 * middle, 2 * middle + given.sets * n_staggered, n_staggered):
        set_pairs = pairs[start : start + n_staggered]
        estimates = (
            scored(model, set_pairs[:n_midpoint], MIDPOINTS, "midpoint"),
            scored(model, set_pairs, POINTS, STAGGERED),
        )
        errors.append(
            [float((estimate - truth).abs().sum() / truth.abs().sum()) for estimate in estimates]
        )
        print(f"{named}: {errors[-1][0]:.3f} {errors[-1][1]:.3f}", flush=True)
    logs = [
        math.log(staggered_error / midpoint_error) for midpoint_error, staggered_error in errors
    ]
    corrected_logs = [
        math.log(
            (staggered_error**2 - reference_error**2) / (midpoint_error**2 - reference_error**2)
        )
        / 2
        for midpoint_error, staggered_error in errors
        if reference_error < min(midpoint_error, staggered_error)
    ]
    default, budget = (mean(column) for column in zip(*errors, strict=True))
    return (
        named,
        f"{default:.1%}",
        f"{budget:.1%}",
        interval(logs),
        f"{sum(log < 0 for log in logs)} of {len(logs)}",
        f"{reference_error:.1%}",
        interval(corrected_logs)
        if len(corrected_logs) == len(errors)
        else "more --reference needed",
    )


def interval(logs: list[float]) -> str:
    """A ratio from its logarithms in each set, with its interval."""
    half_width = student_quantile(LEVEL, len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    centre, low, high = (math.exp(mean(logs) + sign * half_width) for sign in (0, -1, 1))
    return f"{centre:.2f} [{low:.2f}, {high:.2f}]"


def scored(model: HookedModel, pairs: PairSet, steps: int, quadrature: str) -> torch.Tensor:
    """Mean scores of all edges, in float64."""
    scores = attribute(model, pairs, steps=steps, quadrature=quadrature)
    return scores.matrix[scores.mask].double()


if __name__ == "__main__":
    main()
