"""What a score is worth, of edges, nodes and neurons alike.

A ranking goes by the `absolute` score, which keeps what works against the behaviour too, or by the
`signed` score, which takes it last. `mixed` takes at every size a share `positive_ratio` from the
signed order and the rest from the absolute one (the ratio selection of Nikankin et al. 2025,
arXiv:2510.25786, there of edges).
"""

from __future__ import annotations

from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.options.choices import Ranking
from circuits.options.declared import require_known

RANKINGS: tuple[Ranking, ...] = get_args(Ranking)


def require_ranking(ranking: Ranking, positive_ratio: float | None) -> None:
    """Refuse an unknown ranking, and a `positive_ratio` where there is none to take."""
    require_known("ranking", ranking, RANKINGS)
    if (ranking == "mixed") != (positive_ratio is not None) or not 0 <= (positive_ratio or 0) <= 1:
        raise CircuitsError(
            f'ranking {ranking!r}, positive_ratio={positive_ratio}: ranking "mixed" takes a '
            "positive_ratio= "
            "from 0 to 1, and the others take none"
        )


def ranking_keys(scores: Float[Tensor, "*place"], ranking: Ranking) -> Float[Tensor, "*place"]:
    """What scores are worth, highest first."""
    if ranking == "absolute":
        return scores.abs()
    if ranking == "signed":
        return scores
    raise CircuitsError(f"ranking {ranking!r} gives no worth; absolute and signed do")


def mixed_order(
    signed: Int[Tensor, " place"], absolute: Int[Tensor, " place"], positive_ratio: float
) -> Int[Tensor, " place"]:
    """Take from the first order whenever less than its share is in, else from the second.

    Of two orders that were cut at one length, so many: at each step no more of either are behind.

    Args:
        signed: places, best first.
        absolute: the same number of places by another order.
        positive_ratio: the share of the first order, from 0 to 1.

    Returns:
        As many places, each once.
    """
    orders = (signed.tolist(), absolute.tolist())
    cursors = [0, 0]
    order: list[int] = []
    taken: set[int] = set()
    n_signed = 0
    for size in range(1, len(signed) + 1):
        due = n_signed < positive_ratio * size  # then `not due` is 0, the index of signed
        queue, start = orders[not due], cursors[not due]
        while queue[start] in taken:
            start += 1
        cursors[not due] = start + 1
        taken.add(queue[start])
        order.append(queue[start])
        n_signed += due
    return torch.tensor(order, dtype=torch.long)
