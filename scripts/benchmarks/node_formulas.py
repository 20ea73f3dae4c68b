"""Node scores by two formulas beside the exact effects, and when an absolute ranking of them loses.

    python scripts/benchmarks/node_formulas.py --model smollm2-135m --task ioi-abc
    python scripts/benchmarks/node_formulas.py --model gemma3-270m --task ioi-abc

Score of a node = (clean - corrupted) output . gradient of the metric, averaged from corrupted to
clean (EAP-IG, 5 midpoints). Of an MLP the gradient is taken

- *at its output*, by all paths from it (`circuits.attribute_nodes`);
- *at its input*, through the MLP alone, as EAP-IG's published code does for nodes (its hook is on
  what goes into the MLP) and those who took it over. Heads are the same by both.

*exact*: how much the metric falls when a node alone is corrupted (`circuits.patch`).

First how far each is from the exact effects over all pairs. Then circuits of nodes by shares of
all, judged on other pairs: f by absolute and by signed score and by the mix of both, for draws of
`--draws` pairs each, apart from one another, out of `--n`. In round brackets, how much of what a
circuit holds works against the behaviour: the sum of the negative exact effects in it, over all
pairs, as a share of the sum of all nodes' positive ones (with `--no-exact`, which saves most of the
time, of the scores at the output instead). One table a number of pairs: means over the draws with
their 95 % interval over the judged pairs, then the least and the greatest f of the draws; last, the
difference of the two formulas, with its interval.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from method_tables import told
from methods import QUESTIONS
from torch import Tensor

import tasks
from circuits.attribution import attribute_nodes
from circuits.attribution.engine import path_ends
from circuits.attribution.passes import points_of
from circuits.attribution.quadrature import rule
from circuits.attribution.reader_gradients import ReaderGradients
from circuits.evaluation import measure
from circuits.evaluation.measure import faithfulness_from_means
from circuits.graph import NodeScores
from circuits.graph.levels import empty_like, select_size
from circuits.intervention.patching import patch
from circuits.metrics import Metric, metric_for
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from circuits.models.view import ReadsInput
from circuits.options.choices import Ranking
from circuits.runtime.batching import over_batches
from circuits.statistics.estimate import estimates
from tasks.pairs import PairBatch, PairSet

sys.path.append(str(Path(__file__).parents[1]))
from studies import table
from study_corrected import COLUMNS, SITES, compared

STEPS = 5
SHARES = (0.1, 0.2, 0.3, 0.5)
RANKINGS: dict[Ranking, float | None] = {"absolute": None, "signed": None, "mixed": 0.8}
"""With the share by signed score, as `choose_ranking` tries it."""

OfPairs = Float[Tensor, "pair node"]


def at_mlp_inputs(
    model: HookedModel, batch: PairBatch, metric: Metric
) -> Float[Tensor, "batch mlp"]:
    """(Clean - corrupted) output of each MLP . gradient at its input, through that MLP alone."""
    passes, (changes,) = path_ends(model, batch, metric)
    gradients = ReaderGradients(model.view, passes.starts)

    def record(hooks: Hooks, weight: float) -> None:
        gradients.record(hooks, weight, 0)

    passes.run_points(points_of(rule("midpoint", STEPS)), record, lambda: None)
    readers = {
        event.column: event
        for stream in model.view.streams
        for event in stream.events
        if isinstance(event, ReadsInput)
    }
    return torch.stack(
        [
            (changes.mlp[index].float() * gradients.wide[readers[mlp.place.column]][0]).sum((1, 2))
            for index, mlp in enumerate(model.view.mlps)
        ],
        dim=1,
    )


def with_mlp_inputs(model: HookedModel, pairs: PairSet, scores: NodeScores) -> OfPairs:
    """The scores of single pairs with those of MLPs by the gradient at their inputs."""
    assert scores.per_example is not None
    metric, values = metric_for(pairs, None), scores.per_example.clone()
    rows = [mlp.place.row for mlp in model.view.mlps]

    def work(model: HookedModel, batch: PairBatch) -> Float[Tensor, "batch mlp"]:
        return at_mlp_inputs(model, batch, metric)

    for batch, of_mlps in over_batches(model, pairs, work):
        values[batch.index.cpu()[:, None], torch.tensor(rows)] = of_mlps.cpu()
    return values


def exact_effects(model: HookedModel, pairs: PairSet, scores: NodeScores) -> OfPairs:
    """How much the metric falls on each pair when each head and MLP alone is corrupted."""
    assert scores.per_example is not None
    values = torch.zeros_like(scores.per_example)
    for site, kind in (("heads", "head"), ("MLPs", "mlp")):
        patching = patch(model, pairs, SITES[site])
        name = patching.metrics[0]
        drop = patching.clean[name][:, None] - patching.values[name].flatten(1)
        values[:, _of_kind(model, kind)] = drop.to(values)
    return values


def _of_kind(model: HookedModel, kind: str) -> list[int]:
    return [row for row, node in enumerate(model.layout.source_nodes) if node.kind == kind]


def agreement(model: HookedModel, by_formula: Mapping[str, OfPairs]) -> str:
    """How far each formula is from the exact effects, of heads and of MLPs apart."""
    rows = []
    exact = by_formula["exact"].mean(dim=0).numpy()
    for kind in ("head", "mlp"):
        of_kind = _of_kind(model, kind)
        for name, values in by_formula.items():
            if name != "exact":
                means = values.mean(dim=0).numpy()
                wrong = sum((means[of_kind] < 0) != (exact[of_kind] < 0))
                figures = compared(means[of_kind], exact[of_kind])
                rows.append(
                    [kind, name, f"{wrong} of {len(of_kind)}", *(f"{x:.2f}" for x in figures)]
                )
    return table(("nodes", "gradient", "other sign than exact", *COLUMNS), rows)


def circuit_table(
    model: HookedModel,
    judged: PairSet,
    like: NodeScores,
    by_formula: Mapping[str, OfPairs],
    draws: Sequence[Sequence[int]],
) -> str:
    """f of the circuits, and what works against the behaviour in them."""
    effects = by_formula.get("exact", by_formula["at output"]).mean(dim=0)
    candidates = empty_like(like).candidates
    sizes = [round(share * len(candidates)) for share in SHARES]
    keys = [(name, ranking) for name in by_formula for ranking in RANKINGS]
    circuits = [
        select_size(
            replace(like, values=by_formula[name][list(draw)].mean(dim=0), per_example=None),
            size,
            ranking=ranking,
            positive_ratio=RANKINGS[ranking],
        )
        for name, ranking in keys
        for draw in draws
        for size in sizes
    ]
    measured = measure(model, judged, circuits)
    shape = (len(keys), len(draws), len(sizes))

    def of_all(
        means: Float[Tensor, "*resample column"],
    ) -> Float[Tensor, "*resample key draw size"]:
        return faithfulness_from_means(means).view(*means.shape[:-1], *shape)

    def figures(means: Float[Tensor, "*resample column"]) -> Float[Tensor, "*resample figure"]:
        by_key = of_all(means).mean(dim=-2)
        sides = [
            torch.stack([by_key[..., keys.index((name, ranking)), :] for ranking in RANKINGS], -2)
            for name in ("at output", "at input")
        ]
        return torch.cat([by_key, sides[0] - sides[1]], dim=-2).flatten(-2)

    f = of_all(measured.columns.mean(dim=0))
    gain = float(effects[candidates].clamp(min=0).sum())
    harm = torch.tensor([float(effects[c.mask].clamp(max=0).sum()) for c in circuits]).view(shape)
    told_figures = [told(one) for one in estimates(measured.columns, figures)]
    per_row = [
        told_figures[first : first + len(sizes)]
        for first in range(0, len(told_figures), len(sizes))
    ]
    rows = []
    for key, means, of_draws, harms in zip(keys, per_row[: len(keys)], f, harm / gain, strict=True):
        cells = [
            mean
            + (f", {column.min():.2f} to {column.max():.2f}" if len(column) > 1 else "")
            + f" ({against.mean():.2f})"
            for mean, column, against in zip(means, of_draws.T, harms.T, strict=True)
        ]
        rows.append([*key, *cells])
    for ranking, differences in zip(RANKINGS, per_row[len(keys) :], strict=True):
        rows.append(["output less input", ranking, *differences])
    head = [f"f at {size} of {len(candidates)} (against)" for size in sizes]
    return table(("gradient", "ranking", *head), rows)


def main() -> None:
    """Score, patch, judge; print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", choices=QUESTIONS, default="ioi-abc")
    parser.add_argument("--n", type=int, default=32, help="pairs to score nodes on")
    parser.add_argument("--draws", type=int, nargs="+", default=[8, 32], help="pairs of a draw")
    parser.add_argument("--judge", type=int, default=16, help="pairs to judge circuits on")
    parser.add_argument("--no-exact", action="store_true", help="leave out the exact effects")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = HookedModel.from_pretrained(given.model)
    question = QUESTIONS[given.task]
    task = tasks.load(question.task, **question.options)
    pairs = task.pairs(model.tokenizer, n=given.n, split="train", seed=0, n_ctx=model.n_ctx)
    judged = task.pairs(model.tokenizer, n=given.judge, split="test", seed=0, n_ctx=model.n_ctx)
    scores = attribute_nodes(model, pairs, "eap-ig", steps=STEPS, per_example=True)
    assert scores.per_example is not None
    by_formula = {
        "at output": scores.per_example,
        "at input": with_mlp_inputs(model, pairs, scores),
    }
    print(f"{given.model}, {given.task}, {len(pairs)} pairs\n")
    if not given.no_exact:
        by_formula["exact"] = exact_effects(model, pairs, scores)
        print(agreement(model, by_formula))
    for n in given.draws:
        draws = [range(start, start + n) for start in range(0, len(pairs) - n + 1, n)]
        print(f"{len(draws)} draws of {n} pairs, judged on {len(judged)}\n", flush=True)
        print(circuit_table(model, judged, scores, by_formula, draws), flush=True)


if __name__ == "__main__":
    main()
