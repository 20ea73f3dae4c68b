"""Learned masks beside EAP-IG: how near circuits of one size come to the model, on unseen pairs.

    python scripts/study_masks.py --model newsroom-gpt2 --task newsroom --sizes 12 24

For each size: EAP-IG's circuits by absolute and by signed score, masks that begin from its scores
with two seeds, and one that begins from random scores, all with `--start` times the size open at
first. f with an interval over the pairs, |1 - f| (at one size, what CMD is the area of), KL
divergence from the model, accuracy, and the CPU time of learning in units of one EAP-IG of 5 steps
over the same pairs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import torch

import circuits
import tasks
from circuits.evaluation.measure import faithfulness_from_means, measure
from circuits.graph import Circuit, EdgeScores
from circuits.masks import MaskConfig, learn_mask
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.statistics.estimate import estimates
from tasks.pairs import PairSet


@dataclass(frozen=True)
class Row:
    """A circuit and what it took."""

    name: str
    circuit: Circuit
    cost: float


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="newsroom-gpt2")
    parser.add_argument("--task", default="newsroom")
    parser.add_argument("--corruption", help="the task's option of that name")
    parser.add_argument("--n", type=int, default=32, help="pairs to score and learn on")
    parser.add_argument("--judge", type=int, default=48, help="pairs of the test split")
    parser.add_argument("--sizes", type=int, nargs="+", default=[12, 24])
    parser.add_argument("--epochs", type=int, default=MaskConfig.epochs)
    parser.add_argument("--pairs-per-step", type=int, default=MaskConfig.pairs_per_step)
    parser.add_argument("--start", type=float, default=MaskConfig.start, help="open at first")
    parser.add_argument("--objective", choices=["kl-divergence", "metric"], default="kl-divergence")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--no-control", action="store_true", help="leave out the random start")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = HookedModel.from_pretrained(arguments.model)
    options = {} if arguments.corruption is None else {"corruption": arguments.corruption}
    task = tasks.load(arguments.task, **options)
    pairs = task.pairs(model.tokenizer, n=arguments.n, split="validation")
    test_pairs = task.pairs(model.tokenizer, n=arguments.judge, split="test")
    assert not test_pairs.shared(pairs.fingerprints)
    start = time.process_time()
    scores = circuits.attribute(model, pairs, "eap-ig", steps=5)
    scoring_time = time.process_time() - start
    random = circuits.attribute(model, pairs, "random")
    print(
        f"{model.layout.n_edges} edges; EAP-IG of {len(pairs)} pairs: {scoring_time:.1f} s "
        "of CPU time"
    )
    for size in arguments.sizes:
        config = MaskConfig(
            size,
            epochs=arguments.epochs,
            pairs_per_step=arguments.pairs_per_step,
            start=arguments.start,
            objective=arguments.objective,
        )
        print(f"\n{size} edges, {len(test_pairs)} unseen pairs\n")
        print(
            "| | kept | f | 1 - f | KL | accuracy (model's) | time |\n|---|---|---|---|---|---|---|"
        )
        for ranking in ("absolute", "signed"):
            circuit = circuits.select(scores, size=size, ranking=ranking)
            _show(model, test_pairs, Row(f"EAP-IG, {ranking}", circuit, 1.0))
        starts = [(f"mask, seed {seed}", scores, seed) for seed in arguments.seeds]
        starts += (
            []
            if arguments.no_control
            else [("mask from random scores", random, arguments.seeds[0])]
        )
        for name, start_scores, seed in starts:
            _show(
                model,
                test_pairs,
                _learned(name, start_scores, seed, model, pairs, config, scoring_time),
            )


def _learned(
    name: str,
    start_scores: EdgeScores,
    seed: int,
    model: HookedModel,
    pairs: PairSet,
    config: MaskConfig,
    scoring_time: float,
) -> Row:
    start = time.process_time()
    circuit = learn_mask(model, start_scores, pairs, config, options=RunOptions(seed=seed)).circuit
    assert isinstance(circuit, Circuit)
    return Row(name, circuit, (time.process_time() - start) / scoring_time)


def _show(model: HookedModel, pairs: PairSet, row: Row) -> None:
    default, kl, accuracy = (
        measure(model, pairs, [row.circuit], metric=name)
        for name in (None, "kl-divergence", "accuracy")
    )
    (f,) = estimates(default.columns, faithfulness_from_means, seed=0)
    circuit_accuracy, model_accuracy = float(accuracy.circuits.mean()), float(accuracy.clean.mean())
    print(
        f"| {row.name} | {len(row.circuit)} | {f} | {abs(1 - f.value):.3f} | "
        f"{-float(kl.circuits.mean()):.3f} | {circuit_accuracy:.2f} ({model_accuracy:.2f}) | "
        f"{row.cost:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
