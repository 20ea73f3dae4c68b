"""What should a LoRA train? The comparison of a run's recipe, on the circuit that the run found.

    python scripts/study_lora.py --run runs/quickstart --out runs/lora --set seeds=[0,1,2,3,4] \\
        --set "learning_rates=[1.0e-3, 3.0e-3, 1.0e-2]"

`--set` changes keys of the recipe's section `lora`. The run is only read; every training under
`--out` is kept, so that a killed study goes on, and conditions or seeds that are added later cost
only themselves. The tables are printed; circuits of LoRAs (`circuits`) are made by a run alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import transformers

import tasks
from circuits.format import signed
from circuits.models.checkpoints import load_config, tokenizer_of
from circuits.models.context_length import context_window
from circuits.pipeline import load_recipe
from circuits.pipeline.lora import conditions_of, importance_of, protocol_of
from circuits.pipeline.recipe import Recipe
from circuits.runs import open_run
from circuits.tuning.lora_comparison import ComparedExamples, compare_lora_targets
from circuits.tuning.lora_result import LoraComparison
from tasks.named_splits import Split
from tasks.pairs import TrainingExample
from tasks.task import TrainableTask


def main() -> None:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    recipe = load_recipe(
        options.run / "recipe.yaml", [f"lora.{setting}" for setting in options.set]
    )
    section = recipe.lora
    if section is None:
        raise SystemExit(f"{options.run}: its recipe has no section lora")
    run = open_run(options.run)
    circuit = run.circuits[run.first_last[1]]
    diffs = None if recipe.model_diff is None else run.model_diff
    comparison = compare_lora_targets(
        recipe.model,
        ComparedExamples(
            train=examples(recipe, "train", section.examples),
            held_out=examples(recipe, "test", section.held_out),
            validation=examples(recipe, "validation", section.validation),
        ),
        conditions_of(section, importance_of(diffs, circuit), circuit),
        protocol_of(recipe, words="auto"),
        options.out,
        device=recipe.device,
    )
    comparison.save(options.out / "lora.json")
    show(comparison)


def examples(recipe: Recipe, split: Split, number: int) -> list[TrainingExample]:
    """Training examples of the recipe's task."""
    task = tasks.load(recipe.task.name, **recipe.task_options)
    assert isinstance(task, TrainableTask)
    tokenizer = tokenizer_of(recipe.tokenizer or recipe.model)
    n_ctx = context_window(load_config(recipe.model))
    return list(task.examples(tokenizer, number, split=split, seed=recipe.seed, n_ctx=n_ctx))


def show(found: LoraComparison) -> None:
    """The tables, as Markdown."""
    head = ("condition", "layers", "parameters", "rate", "ROUGE-L", "held-out loss", "gap", "s")
    print(f"| {' | '.join(head)} | steps to {signed(found.goal)} |")
    print("|---" * 9 + "|")
    for target in found.targets:
        runs = found.of(target.name)
        layers = dict.fromkeys(", ".join(map(str, run.layers)) for run in runs)
        edge = any(rate.at_edge for rate in found.rates if rate.condition == target.name)
        cells = [
            " / ".join(layers),
            f"{found.parameters(target.name):,.0f}",
            f"{runs[0].learning_rate:g}{' (end)' if edge else ''}",
            signed(found.spread(target.name, lambda means: means.rougeL).mean),
            signed(found.spread(target.name, lambda means: means.loss).mean),
            signed(fmean(run.gap for run in runs)),
            f"{fmean(run.seconds for run in runs):.1f}",
        ]
        goal_steps = found.steps_to_goal(target.name)
        steps = ", ".join("-" if n is None else str(n) for n in goal_steps)
        print(f"| {target.name} | {' | '.join(cells)} | {steps} |")
    for difference in found.differences:
        print(f"{difference.score}: {difference.verdict}")


if __name__ == "__main__":
    main()
