"""Node scores of gradient methods against exact patching: who is right about which nodes.

    python scripts/study_corrected.py [--models smollm2-135m gemma3-270m] [--task ioi] [--n 16]
        [--seeds 0 1]

The exact effect of a head or an MLP is how much the metric falls when what it puts out is replaced,
at all positions, by what it puts out on the corrupted prompt, everything behind it running again.
Scores and effects are means over the same pairs. Of heads and of MLPs apart, for each seed of the
pairs:

- Pearson's r and Spearman's rho of scores with effects;
- sign: of the nodes that make up 90 % of all |effect|, the share whose score has its sign, each
  counted by its effect;
- size: sum of |scores| over sum of |effects|. A method may rank well and yet be off in size;
- error: sum of |score - effect| over sum of |effect|; 1 is what scores of zero give.
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
from circuits.attribution import attribute_nodes
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


def effects(model: HookedModel, pairs: PairSet, kind: str) -> np.ndarray[Any, Any]:
    """How much the metric falls, layer by layer, and head by head within."""
    found = patch(model, pairs, SITES[kind])
    name = found.metrics[0]
    fall = found.clean[name].mean() - found.values[name].mean(dim=0)
    return fall.flatten().numpy()


def compared(scores: np.ndarray[Any, Any], exact: np.ndarray[Any, Any]) -> list[float]:
    """r, rho, sign, size, error."""
    order = np.argsort(-np.abs(exact))
    sizes = np.abs(exact)[order]
    large = order[: int(np.searchsorted(np.cumsum(sizes), MOST * sizes.sum())) + 1]
    weight = np.abs(exact[large])
    right = np.sign(scores[large]) == np.sign(exact[large])
    whole = np.abs(exact).sum()
    return [
        float(pearsonr(scores, exact).statistic),
        float(spearmanr(scores, exact).statistic),
        float((weight * right).sum() / weight.sum()),
        float(np.abs(scores).sum() / whole),
        float(np.abs(scores - exact).sum() / whole),
    ]


def main() -> None:
    """Print one table a model, seed and kind of node."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["smollm2-135m"])
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--corruption", default=None, help="of ioi: abc or swap")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    options = {} if given.corruption is None else {"corruption": given.corruption}
    for source in given.models:
        model = HookedModel.from_pretrained(source, device="cpu")
        for seed in given.seeds:
            task = tasks.load(given.task, **options)
            pairs = task.pairs(model.tokenizer, n=given.n, split="train", seed=seed)
            exact = {kind: effects(model, pairs, kind) for kind in SITES}
            rows: dict[str, list[list[str]]] = {kind: [] for kind in SITES}
            for name, (method, settings) in METHODS.items():
                scores = attribute_nodes(model, pairs, method, **settings)
                places = {"heads": "head", "MLPs": "mlp"}
                for kind, part in places.items():
                    chosen = [node.kind == part for node in model.layout.source_nodes]
                    values = scores.values.numpy()[chosen]
                    figures = compared(values, exact[kind])
                    rows[kind].append([name, *(f"{figure:.2f}" for figure in figures)])
            for kind in SITES:
                print(f"\n{source}, seed {seed}, {len(exact[kind])} {kind}, n = {given.n}\n")
                print(table(["method", "r", "rho", "sign", "size", "error"], rows[kind]))


if __name__ == "__main__":
    main()
