"""What does a bfloat16 model do to the scores? Edge scores of one model in both dtypes.

    python scripts/study_dtype.py [--checkpoint runs/quickstart/checkpoints/step-200 ...]

The models and pairs of scripts/study_quadrature.py. In bfloat16 weights and activations are
rounded; norms, differences and sums of the scores stay float32. Prints, for the mean scores of all
edges by the default method: the rank correlation (Spearman) of the scores and of their absolute
values, the share of the largest 5 % that both have, and the relative L1 difference. Beside it the
same between two halves of the examples in float32: what the choice of examples alone does.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
import transformers
from scipy.stats import spearmanr
from study_quadrature import relative, subjects
from torch import Tensor

from circuits.attribution import attribute
from circuits.models import HookedModel
from tasks.pairs import PairSet

TOP = 0.05


def scored(model: HookedModel, pairs: PairSet) -> Tensor:
    """Scores (example, edge) by the default method, in float64."""
    found = attribute(model, pairs, per_example=True)
    assert found.per_example is not None
    return found.per_example[:, model.layout.mask].double()


def agreement(one: Tensor, other: Tensor) -> str:
    """Table cells for two lists of scores of the same edges."""
    size = max(1, round(TOP * len(one)))
    top = [set(each.abs().topk(size).indices.tolist()) for each in (one, other)]
    return (
        f"{spearmanr(one, other).statistic:.4f} | "
        f"{spearmanr(one.abs(), other.abs()).statistic:.4f} | "
        f"{len(top[0] & top[1]) / size:.2f} | {relative(other, one):.1%}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, action="append", default=[])
    parser.add_argument("--models", type=Path, default=Path("runs/quadrature"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    cells = "rank | rank of size | top 5 % | L1"
    print(f"| model, task | bfloat16: {cells} | halves: {cells} |")
    for subject in subjects(arguments.checkpoint, arguments.models):
        exact = scored(subject.model, subject.pairs)
        narrow = HookedModel(copy.deepcopy(subject.model.hf).bfloat16(), None, subject.name)
        rounded = agreement(exact.mean(dim=0), scored(narrow, subject.pairs).mean(dim=0))
        halves = agreement(exact[::2].mean(dim=0), exact[1::2].mean(dim=0))
        print(f"| {subject.name} | {rounded} | {halves} |", flush=True)


if __name__ == "__main__":
    main()
