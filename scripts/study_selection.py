"""Which rule makes the best circuits from the same scores?

    python scripts/study_selection.py newsroom --checkpoint runs/quickstart/checkpoints/step-200
    python scripts/study_selection.py names

`newsroom` takes a checkpoint that was fine-tuned to summarise. `names` trains a small GPT-2 from
scratch, one a seed, to complete "When A and B went to the shop, A gave a book to" with B (indirect
objects, Wang et al. 2022) until it is right in 999 of 1,000 cases; its pairs are a table of names.

For each seed edges are scored by EAP-IG on one draw of examples, the mix is chosen on a second, and
every rule is judged on a third that neither has seen. Printed are the areas by rule, the difference
of each to plain top-n with a 95 % bootstrap interval over the seeds' examples together, and f early
on the curve. A difference whose interval holds 0 is none.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from jaxtyping import Float
from torch import Tensor

import tasks
from circuits.attribution import attribute
from circuits.evaluation import (
    FRACTIONS,
    RatioConfig,
    faithfulness_from_means,
    measure,
    tune_positive_ratio,
)
from circuits.evaluation.positive_ratio import Objective
from circuits.graph import Circuit, EdgeScores, edge_order, top_mask
from circuits.models import HookedModel
from circuits.options.choices import Ranking, Strategy
from circuits.runtime.files import write_json
from circuits.statistics.estimate import estimates
from tasks.named_splits import Split
from tasks.pairs import PairSet, PromptPair

RULES: tuple[Strategy, ...] = ("top-n", "widest-path", "greedy", "stable")
RANKINGS: tuple[Ranking, ...] = ("signed", "absolute")
MIXED: tuple[tuple[Strategy, Objective], ...] = (
    ("top-n", "cpr"),
    ("top-n", "cmd"),
    ("widest-path", "cpr"),
    ("widest-path", "cmd"),
)
JUDGED_BY = {
    "CPR": "signed",
    "CMD": "absolute",
    "log area": "signed",
    "f at 1 %": "absolute",
    "f at 2 %": "absolute",
    "f at 5 %": "absolute",
}
FIGURES = tuple(JUDGED_BY)
Judged = dict[str, dict[str, dict[str, str]]]
Draws = Iterator[tuple[HookedModel, PairSet, PairSet, PairSet]]


def main() -> None:
    """Judge every rule and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("newsroom", "names"))
    parser.add_argument("--checkpoint", default="runs/quickstart/checkpoints/step-200")
    parser.add_argument("--score", type=int, default=96, help="examples to score edges on")
    parser.add_argument("--judge", type=int, default=100, help="examples to judge circuits on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    draws = (
        newsroom(options.checkpoint, options.score, options.judge, options.seeds)
        if options.study == "newsroom"
        else names(options.score, options.judge, options.seeds)
    )
    seed_values = []
    for seed, (model, score_pairs, choice_pairs, judge_pairs) in enumerate(draws):
        scores = attribute(model, score_pairs, "eap-ig", steps=5, per_example=True)
        orders, mixes = all_orders(model, scores, choice_pairs)
        print(f"seed {seed}: mix {json.dumps(mixes)}", flush=True)
        seed_values.append(run(model, orders, judge_pairs))
    figures = judged(torch.stack(seed_values), list(orders))
    show(figures, model, options)
    if options.out:
        write_json(options.out, figures)


def all_orders(
    model: HookedModel, scores: EdgeScores, pairs: PairSet
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Every rule by both rankings; the mix that did best on `pairs` for each aim."""
    orders: dict[str, Tensor] = {}
    mixes: dict[str, float] = {}
    for ranking in RANKINGS:
        orders |= {
            f"{strategy}, {ranking}": edge_order(scores, strategy, ranking) for strategy in RULES
        }
    for strategy, objective in MIXED:
        config = RatioConfig(objective, strategy=strategy)
        share = tune_positive_ratio(model, scores, pairs, config=config).positive_ratio
        mixes[f"{strategy} {objective}"] = share
        orders[f"{strategy}, mixed {objective}"] = edge_order(
            scores, strategy, "mixed", positive_ratio=share
        )
    return orders, mixes


def run(
    model: HookedModel, orders: dict[str, Tensor], pairs: PairSet
) -> Float[Tensor, "example column"]:
    """Metric values: clean, corrupted, then every rule at every share."""
    layout = model.layout
    sizes = [int(share * layout.n_edges) for share in FRACTIONS]
    circuits = [
        Circuit(layout, top_mask(order, layout, size)).pruned()
        for order in orders.values()
        for size in sizes
    ]
    return measure(model, pairs, circuits).columns


def judged(values: Float[Tensor, "seed example column"], rules: list[str]) -> Judged:
    """Every figure by rule, and its difference to top-n by that figure's ranking; means over seeds.


    Example i of every seed is resampled together, so an interval covers examples and not seeds.
    """
    seeds, _, columns = values.shape
    axis = torch.tensor(FRACTIONS, dtype=torch.float64)
    small_indices = [FRACTIONS.index(share) for share in (0.01, 0.02, 0.05)]
    base = [rules.index(f"top-n, {ranking}") for ranking in JUDGED_BY.values()]

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        f = faithfulness_from_means(means.unflatten(-1, (seeds, columns))).unflatten(
            -1, (len(rules), len(axis))
        )
        log = axis.log()
        areas = [
            torch.trapezoid(f, axis),
            torch.trapezoid((1 - f).abs(), axis),
            torch.trapezoid(f, log) / (log[-1] - log[0]),
            *(f[..., index] for index in small_indices),
        ]
        rule_areas = torch.stack(areas, dim=-1).mean(dim=-3)
        plain = rule_areas[..., base, list(range(len(base)))][..., None, :]
        return torch.cat([rule_areas, rule_areas - plain], dim=-2).flatten(-2)

    all_estimates = estimates(values.transpose(0, 1).flatten(1), figures)
    rows = [
        all_estimates[start : start + len(FIGURES)]
        for start in range(0, len(all_estimates), len(FIGURES))
    ]
    return {
        strategy: {
            "figures": dict(zip(FIGURES, map(str, rows[row]), strict=True)),
            "against top-n": dict(zip(FIGURES, map(str, rows[len(rules) + row]), strict=True)),
        }
        for row, strategy in enumerate(rules)
    }


def show(found: Judged, model: HookedModel, given: argparse.Namespace) -> None:
    """Print two tables."""
    print(
        f"\n{given.study}: {model.name}, {model.layout.n_edges} edges; {given.seeds} seeds, "
        f"{given.score} examples to score on, {given.judge} to judge on"
    )
    for section in ("figures", "against top-n"):
        print(f"\n{section:<20}" + "".join(f"{figure:<24}" for figure in FIGURES))
        for strategy, rule_figures in found.items():
            print(
                f"{strategy:<20}"
                + "".join(f"{rule_figures[section][figure]:<24}" for figure in FIGURES)
            )


# -- the newsroom


def newsroom(checkpoint: str, score: int, judge: int, seeds: int) -> Draws:
    """A fine-tuned checkpoint; edges are scored and mixes chosen on validation articles."""
    model = HookedModel.from_pretrained(checkpoint)
    task = tasks.load("newsroom")

    def drawn(n: int, split: Split, seed: int) -> PairSet:
        return task.pairs(model.tokenizer, n, split=split, seed=seed, n_ctx=model.n_ctx)

    for seed in range(seeds):
        yield (
            model,
            drawn(score, "validation", seed),
            drawn(judge, "validation", 1000 + seed),
            drawn(judge, "test", seed),
        )


# -- names

PEOPLE, PLACES, THINGS, WORDS = 30, 10, 10, 12
VOCABULARY = WORDS + PEOPLE + PLACES + THINGS


def sentence(people: list[int], giver: int, place: int, thing: int, shape: int) -> list[int]:
    """Three sentence shapes over made-up word ids: 0 When, 1 and, 2 went to the, 3 gave a, ..."""
    a, b = people
    if shape == 0:
        return [0, a, 1, b, 2, place, 4, giver, 3, thing, 5]
    if shape == 1:
        return [6, 7, a, 1, b, 8, 2, place, 4, giver, 3, thing, 5]
    return [9, a, 1, b, 10, 3, thing, 2, place, 11, giver, 3, 4, 5]


def one_pair(draw: random.Random, source: str) -> PromptPair:
    """The giver is one of the two people; the corrupted prompt has the other one give."""
    people = draw.sample(range(WORDS, WORDS + PEOPLE), 2)
    place = WORDS + PEOPLE + draw.randrange(PLACES)
    thing = WORDS + PEOPLE + PLACES + draw.randrange(THINGS)
    shape = draw.randrange(3)
    giver, getter = draw.sample(people, 2)
    clean = sentence(people, giver, place, thing, shape)
    corrupted = sentence(people, getter, place, thing, shape)
    return PromptPair(tuple(clean), tuple(corrupted), ((getter,),), ((giver,),), source=source)


def table(n: int, seed: str) -> PairSet:
    """n rows; different seeds share no draw."""
    draw = random.Random(f"names {seed}")
    rows = tuple(one_pair(draw, f"row {row + 1}") for row in range(n))
    return PairSet(rows, task="names", metric="logit-difference")


def names(score: int, judge: int, seeds: int) -> Draws:
    """A model trained again for each seed."""
    for seed in range(seeds):
        model = HookedModel(trained(seed), None, "names")
        yield (
            model,
            table(score, f"score {seed}"),
            table(judge, f"choose {seed}"),
            table(judge, f"judge {seed}"),
        )


def trained(seed: int) -> transformers.GPT2LMHeadModel:
    """A GPT-2 of 4 layers and 4 heads; the loss is on the answer alone."""
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=VOCABULARY, n_embd=64, n_layer=4, n_head=4, n_positions=16,
            bos_token_id=0, eos_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        )
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    draw = random.Random(f"names training {seed}")
    mean_accuracy, steps = 0.0, 0
    while mean_accuracy < 0.999 and steps < 3000:
        batch = PairSet(tuple(one_pair(draw, "row") for _ in range(96))).batch(list(range(96)))
        logits = model(batch.clean, attention_mask=batch.mask.long()).logits
        answer_logits = logits[batch.example_index, batch.position]
        loss = torch.nn.functional.cross_entropy(answer_logits, batch.answer[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy = (answer_logits.argmax(-1) == batch.answer[:, 0]).float().mean()
        mean_accuracy, steps = 0.98 * mean_accuracy + 0.02 * float(accuracy), steps + 1
    print(f"seed {seed}: trained {steps} steps, right in {mean_accuracy:.4f} of the last cases")
    return model


if __name__ == "__main__":
    main()
