"""Which layers a LoRA should touch, and how it did beside others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from statistics import fmean

from circuits.format import MISSING, count, counted, estimate, listed, percent, signed, span
from circuits.graph.node import Node
from circuits.plot.figures.dots import dots_height
from circuits.plot.figures.lora import SCORES, layer_choice, layers_height, lora_dots
from circuits.report.blocks import Block, Figure, Method, Table, Text
from circuits.report.run import Run
from circuits.tuning.lora_differences import Difference
from circuits.tuning.lora_result import LoraComparison, LoraRun
from circuits.tuning.lora_targets import LoraTarget


def scores(run: Run) -> Iterator[Block]:
    """Scores of every condition."""
    comparison = run.lora
    seeds = len(comparison.seeds)
    examples = f"{run.nouns.example}s"
    yield Text(
        "Every condition starts from the base model and takes the same steps on the same batches; "
        "its rank is set so that it trains about as many parameters as a LoRA on all layers, where "
        "the condition is not about another number. The conditions differ in what they train."
    )
    yield Figure(
        caption=f"After {count(comparison.steps)} steps, on {count(comparison.held_out)} held-out "
        f"{examples}. Each dot is one run ({counted(seeds, 'seed')}); the bar is their mean. "
        "The axes do not start at 0. Base model: "
        + ", ".join(f"{score.name} {signed(score.of(comparison.base))}" for score in SCORES)
        + ".",
        views={"": lora_dots(comparison)},
        height=dots_height(1, len(comparison.targets), 1, 36),
        method=Method(
            steps=(
                "A seed sets the order of the data, the initial weights of the adapter, and the "
                "layers of a random condition. The steps are few and far from convergence: the "
                "comparison shows which layers learn fastest, not which are best in the end.",
                *_tuning(comparison),
            ),
            settings={
                "steps": comparison.steps,
                f"held-out {examples}": comparison.held_out,
                "parameter budget": comparison.budget,
                "seeds": listed([str(seed) for seed in comparison.seeds]),
            },
        ),
    )
    yield Table(
        caption=f"The same in numbers: mean ± standard deviation over {counted(seeds, 'seed')}. "
        f"This is a spread over seeds, not an interval over {examples}.",
        head=[
            "condition",
            "layers",
            "rank",
            "parameters (budget)",
            *(score.name for score in SCORES),
        ],
        views={"": [_row(comparison, target) for target in comparison.targets]},
    )
    goal = comparison.goal
    reached = "" if goal is None else f" Steps to a validation loss of {signed(goal)}, by run."
    yield Table(
        caption="How each condition was trained, and what it cost. The gap is the held-out loss "
        f"less the loss on training {examples}, both after the last step; seconds are spent "
        f"training, in the mean of the runs.{reached}",
        head=["condition", "chosen by", "learning rate", "gap, nats", "steps to loss", "seconds"],
        views={"": [_cost(comparison, target) for target in comparison.targets]},
    )


def differences(run: Run) -> Iterator[Block]:
    """Every difference with its interval and what it says."""
    comparison = run.lora
    if not comparison.differences:
        return
    pairs = len(comparison.differences) // 2
    seeds = len(comparison.seeds)
    sample = f"seeds and {run.nouns.example}s" if seeds > 1 else f"{run.nouns.example}s alone"
    by_conditions = {
        (difference.first, difference.second, difference.score): difference
        for difference in comparison.differences
    }
    yield Table(
        caption="The first condition less the second, run by run and example by example: mean with "
        f'its 95 % interval over {sample}. Not shown: the interval holds 0. "none" is the '
        f"untrained base. Of {counted(pairs, 'comparison')} without any difference, about "
        f"{max(1, round(pairs / 20))} would be called better or worse by chance.",
        head=["comparison", "ROUGE-L", "", "held-out loss, nats", ""],
        views={
            first: [
                [
                    f"{first} against {second}",
                    *_difference(by_conditions[first, second, "ROUGE-L"]),
                    *_difference(by_conditions[first, second, "held-out loss"]),
                ]
                for condition, second, score in by_conditions
                if condition == first and score == "ROUGE-L"
            ]
            for first in dict.fromkeys(condition for condition, _, _ in by_conditions)
        },
        chosen=comparison.differences[0].first,
    )


def layers(run: Run) -> Iterator[Block]:
    """Where each condition has its adapters, and by what they were put there."""
    comparison = run.lora
    yield Figure(
        caption="Left: the layers that each condition adapted, as a share of its seeds (a "
        "random condition draws layers for each seed). Right: the importance of each layer "
        "by every criterion that "
        "was computed, as a share of its sum over layers.",
        views={"": layer_choice(comparison)},
        height=layers_height(comparison),
        method=Method(
            steps=(
                "edges is the |score| of the last checkpoint's circuit: half of each edge "
                "counts for the layer of its source and half for that of its reader. "
                "attention-kl, entropy and hidden-state are the changes of attention, of its "
                "entropy, and of each block's own update between the base and the last "
                "checkpoint.",
            ),
        ),
    )


def _tuning(comparison: LoraComparison) -> Iterator[str]:
    """How learning rates were tuned, where they were."""
    if not comparison.rates:
        return
    rate_choice = comparison.rates[0]
    rates = listed([f"{trial.rate:g}" for trial in rate_choice.trials])
    edge = [choice.condition for choice in comparison.rates if choice.at_edge]
    beyond = (
        f" The best of {listed(edge)} lies at the end of the grid: others may be better."
        if edge
        else ""
    )
    yield (
        f"Each condition takes the learning rate of {rates} with the lowest validation loss after "
        f"{counted(rate_choice.steps, 'step')} with seed {rate_choice.seed}, which no run has: "
        f"{count(len(rate_choice.trials) * rate_choice.steps)} steps a condition.{beyond}"
    )


def _row(comparison: LoraComparison, target: LoraTarget) -> list[str]:
    runs = comparison.of(target.name)
    layer_lists = dict.fromkeys(_where(run) for run in runs)
    parameters = comparison.parameters(target.name)
    ranks = {rank for run in runs for rank in run.ranks.values()}
    row = [
        target.name,
        " / ".join(layer_lists),
        MISSING if not ranks else span(min(ranks), max(ranks)),
        f"{count(parameters)} ({percent(parameters / comparison.budget, 0)})",
    ]
    for score in SCORES:
        spread = comparison.spread(target.name, score.of)
        deviation = "" if math.isnan(spread.sd) else f" ± {signed(spread.sd)}"
        row.append(signed(spread.mean) + deviation)
    return row


def _where(run: LoraRun) -> str:
    """The layers of a run; by head, how many heads of which maps."""
    layer_list = ", ".join(map(str, run.layers))
    if not run.heads:
        return layer_list
    roles = Counter(Node.parse(name).port or "output" for name in run.heads)
    return f"{layer_list}; heads: {listed([f'{n} {role}' for role, n in roles.items()])}"


def _cost(comparison: LoraComparison, target: LoraTarget) -> list[str]:
    runs = comparison.of(target.name)
    rates = dict.fromkeys(f"{run.learning_rate:g}" for run in runs)
    edge = any(choice.at_edge for choice in comparison.rates if choice.condition == target.name)
    steps = comparison.steps_to_goal(target.name)
    return [
        target.name,
        target.criterion,
        ", ".join(rates) + (" (end of the grid)" if edge else ""),
        signed(fmean(run.gap for run in runs)),
        ", ".join(MISSING if step is None else str(step) for step in steps),
        signed(fmean(run.seconds for run in runs), 1),
    ]


def _difference(difference: Difference) -> list[str]:
    return [estimate(difference.value), difference.outcome]
