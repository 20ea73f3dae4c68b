"""Gradient methods against exact patching: who is right about which nodes; and their circuits.

    python scripts/study_corrected.py [--models smollm2-135m gemma3-270m] [--task ioi] [--n 16]
        [--seeds 0 1] [--judge 12]

The exact effect of a head or an MLP is how much the metric falls when what it puts out is replaced,
at all positions, by what it puts out on the corrupted prompt, everything behind it running again.
Scores and effects are means over the same pairs. Of heads and of MLPs apart, for each seed of the
pairs:

- Pearson's r of scores with effects; r but one, without the node that the method misses most, for
  one node of a large score is all that r looks at; Spearman's rho;
- sign: of the nodes that make up 90 % of all |effect|, the share whose score has its sign, each
  counted by its effect;
- size: sum of |scores| over sum of |effects|. A method may rank well and yet be off in size;
- error: sum of |score - effect| over sum of |effect|; 1 is what scores of zero give.

With `--judge`, circuits of edges by each method's scores of the same pairs, on so many pairs of the
test split: CPR (signed) and CMD (absolute) on the shares of edges below, and f at 1 and 2 % by both
rankings.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from studies import table

import tasks
from circuits.attribution import attribute, attribute_nodes
from circuits.evaluation import CurveConfig, faithfulness
from circuits.intervention.patching import PatchSpec, patch
from circuits.models import HookedModel
from tasks.pairs import PairSet

METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "EAP": ("eap", {}),
    "EAP-IG, 5 midpoints": ("eap-ig", {"steps": 5}),
    "EAP-IG, 20 midpoints": ("eap-ig", {"steps": 20}),
    "RelP": ("relp", {}),
    "RelP, attention constant": ("relp", {"attention": "constant"}),
    "GIM": ("gim", {}),
}
SITES = {
    "heads": PatchSpec("z", direction="noise"),
    "MLPs": PatchSpec("mlp_out", "noise", ("layer",)),
}
MOST = 0.9
COLUMNS = ("r", "r but one", "rho", "sign", "size", "error")
FRACTIONS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
CURVE = ("CPR", "CMD", "1 % signed", "1 % absolute", "2 % signed", "2 % absolute")


def effects(model: HookedModel, pairs: PairSet, kind: str) -> np.ndarray[Any, Any]:
    """How much the metric falls, layer by layer, and head by head within."""
    patching = patch(model, pairs, SITES[kind])
    name = patching.metrics[0]
    drop = patching.clean[name].mean() - patching.values[name].mean(dim=0)
    return drop.flatten().numpy()


def compared(scores: np.ndarray[Any, Any], exact: np.ndarray[Any, Any]) -> list[float]:
    """The columns of the table."""
    order = np.argsort(-np.abs(exact))
    sizes = np.abs(exact)[order]
    large_nodes = order[: int(np.searchsorted(np.cumsum(sizes), MOST * sizes.sum())) + 1]
    weight = np.abs(exact[large_nodes])
    same_sign = np.sign(scores[large_nodes]) == np.sign(exact[large_nodes])
    total = np.abs(exact).sum()
    not_worst = np.arange(len(exact)) != np.abs(scores - exact).argmax()
    return [
        float(pearsonr(scores, exact).statistic),
        float(pearsonr(scores[not_worst], exact[not_worst]).statistic),
        float(spearmanr(scores, exact).statistic),
        float((weight * same_sign).sum() / weight.sum()),
        float(np.abs(scores).sum() / total),
        float(np.abs(scores - exact).sum() / total),
    ]


def circuit_rows(model: HookedModel, pairs: PairSet, judged: PairSet) -> list[list[str]]:
    """Figures of each method's circuits of edges."""
    rows = []
    for name, (method, settings) in METHODS.items():
        scores = attribute(model, pairs, method, **settings)
        curve = CurveConfig(fractions=FRACTIONS, n_random=0)
        measured = faithfulness(model, scores, judged, curve=curve)
        at_shares = [
            measured.curves[ranking].at(share)
            for share in (0.01, 0.02)
            for ranking in ("signed", "absolute")
        ]
        rows.append(
            [
                name,
                *(f"{estimate.value:.2f}" for estimate in (measured.cpr, measured.cmd, *at_shares)),
            ]
        )
    return rows


def main() -> None:
    """Print one table a model, seed and kind of node."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["smollm2-135m"])
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--corruption", default=None, help="of ioi: abc or swap")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--judge", type=int, default=0, help="pairs to judge circuits on; 0: none")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    options = {} if arguments.corruption is None else {"corruption": arguments.corruption}
    for source in arguments.models:
        model = HookedModel.from_pretrained(source, device="cpu")
        for seed in arguments.seeds:
            task = tasks.load(arguments.task, **options)
            pairs = task.pairs(model.tokenizer, n=arguments.n, split="train", seed=seed)
            exact_effects = {kind: effects(model, pairs, kind) for kind in SITES}
            rows: dict[str, list[list[str]]] = {kind: [] for kind in SITES}
            for name, (method, settings) in METHODS.items():
                scores = attribute_nodes(model, pairs, method, **settings)
                node_kinds = {"heads": "head", "MLPs": "mlp"}
                for kind, node_kind in node_kinds.items():
                    is_kind = [node.kind == node_kind for node in model.layout.source_nodes]
                    values = scores.values.numpy()[is_kind]
                    figures = compared(values, exact_effects[kind])
                    rows[kind].append([name, *(f"{figure:.2f}" for figure in figures)])
            for kind in SITES:
                print(
                    f"\n{source}, seed {seed}, {len(exact_effects[kind])} {kind}, "
                    f"n = {arguments.n}\n"
                )
                print(table(["method", *COLUMNS], rows[kind]), flush=True)
            if arguments.judge:
                test_pairs = task.pairs(model.tokenizer, n=arguments.judge, split="test", seed=seed)
                print(f"\n{source}, seed {seed}, circuits of edges, n = {arguments.judge}\n")
                print(table(["method", *CURVE], circuit_rows(model, pairs, test_pairs)), flush=True)


if __name__ == "__main__":
    main()
