"""Would other examples have given the same circuit? Selection repeated on other draws of them.

The examples that the scores were made from are drawn anew, mean scores are formed, and a circuit is
selected by the same rule, size and pruning. No model is run. Two figures, both Jaccard indices of
edges with the central 95 % of draws, enclose the likeness that circuits of as many new examples
would have:

- `overlap`, of a bootstrap resample's circuit with the circuit found, is too high, since resamples
  are centred on the examples that the circuit was picked by;
- `halves`, of the circuits of two random disjoint halves, is too low, since a half is noisier.

On scores with a known truth and noise from a tenth to the whole of it, new examples gave a likeness
between the two each time (tests/evaluation/test_stability.py). Control: circuits of random
rankings, of the same size and pruning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.evaluation.intervals import Estimate
from circuits.graph import Circuit, EdgeScores, select
from circuits.statistics import LEVEL, resample_weights

CORE = 0.95


@dataclass(frozen=True)
class Stability:
    """Likeness of circuits selected from other draws of the examples.

    frequencies: of each edge that any resample selected, the share of resamples that did, highest
        first. It is itself a statement of uncertainty over examples, and so has no interval.
    chance: that share for an edge picked at random.
    circuit: its edges. core: how many of them at least 95 % of the resamples select.
    """

    overlap: Estimate
    halves: Estimate
    control: Estimate
    frequencies: dict[str, float]
    chance: float
    circuit: tuple[str, ...]
    core: int
    resamples: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "overlap": self.overlap.to_dict(),
            "halves": self.halves.to_dict(),
            "control": self.control.to_dict(),
            "frequencies": self.frequencies,
            "chance": self.chance,
            "circuit": list(self.circuit),
            "edges": len(self.circuit),
            "core": self.core,
            "resamples": self.resamples,
        }


def stability(
    scores: EdgeScores,
    *,
    edges: int,
    rule: str = "paths",
    ranking: str = "absolute",
    positive: float | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> Stability:
    """Select a circuit again from `resamples` bootstrap resamples, and as many splits in halves.

    edges, rule, ranking, positive: as for `select`.
    """
    if scores.per_example is None or len(scores.per_example) < 2:
        raise CircuitsError(
            "stability needs the scores of at least two examples one by one; score with "
            "per_example=True (--per-example)"
        )
    if resamples < 2:
        raise CircuitsError(f"{resamples} resamples: at least 2 are needed")

    def chosen(one: EdgeScores) -> Circuit:
        return select(one, edges=edges, rule=rule, ranking=ranking, positive=positive)

    n = len(scores.per_example)
    circuit = chosen(scores)
    counts = (n * resample_weights(n, resamples, seed=seed)).round().long()
    masks = [chosen(_drawn(scores, torch.arange(n).repeat_interleave(row))).mask for row in counts]
    draw = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n, generator=draw) for _ in range(resamples)]
    halves = [
        [chosen(_drawn(scores, half)).mask for half in (order[: n // 2], order[n // 2 :])]
        for order in orders
    ]
    random = [
        select(replace(scores, matrix=noise * scores.mask, per_example=None), edges=edges).mask
        for noise in torch.rand(resamples, *scores.layout.shape, generator=draw)
    ]
    share = torch.stack(masks).double().mean(dim=0)
    places = share.flatten().argsort(descending=True, stable=True)
    width = scores.layout.shape[1]
    frequencies = {
        scores.layout.edge_name(place // width, place % width): float(share.flatten()[place])
        for place in places[: int((share > 0).sum())].tolist()
    }
    return Stability(
        _central([_jaccard(circuit.mask, mask) for mask in masks], n),
        _central([_jaccard(a, b) for a, b in halves], n),
        _central([_jaccard(circuit.mask, mask) for mask in random], n),
        frequencies,
        float(share.sum()) / scores.layout.n_edges,
        circuit.edges,
        int((share[circuit.mask] >= CORE).sum()),
        resamples,
    )


def _drawn(scores: EdgeScores, places: Int[Tensor, " drawn"]) -> EdgeScores:
    """The scores of the examples at these places."""
    assert scores.per_example is not None
    examples = scores.per_example[places]
    return replace(scores, matrix=examples.double().mean(dim=0).float(), per_example=examples)


def _jaccard(a: Bool[Tensor, "source reader"], b: Bool[Tensor, "source reader"]) -> float:
    """Shared edges over all edges; 1 for two empty circuits."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def _central(values: Sequence[float], n: int) -> Estimate:
    """The mean with the central 95 % of the values."""
    found = torch.tensor(values, dtype=torch.float64)
    low, high = found.quantile(
        torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    ).tolist()
    return Estimate(float(found.mean()), low, high, n)
