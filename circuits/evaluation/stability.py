"""Would other examples have given the same circuit? Selection repeated on other draws of them.

The examples that the scores were made from are drawn again, mean scores are formed, and a circuit
is selected by the same strategy, size and pruning. No model is run. Two figures, both Jaccard
indices of edges (nodes, neurons) with the central 95 % of draws, enclose the likeness that circuits
of as many new examples would have:

- `resample_jaccard`, of a bootstrap resample's circuit with the circuit found, is too high, since
  resamples are centred on the examples that the circuit was picked by;
- `split_half_jaccard`, of the circuits of two random disjoint halves, is too low, since a half is
  noisier.

On scores with a known truth and noise from a tenth to the whole of it, new examples gave a likeness
between the two each time (tests/evaluation/test_stability.py). Control: circuits selected in the
same way from random scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from circuits.errors import CircuitsError
from circuits.evaluation.draws import Chosen, drawn, jaccard, with_values
from circuits.graph import AnyScores
from circuits.graph.levels import empty_like, select_size
from circuits.options.choices import Level, Ranking, Strategy
from circuits.statistics import LEVEL, resample_weights
from circuits.statistics.estimate import Estimate

STABLE = 0.95
"""The share of resamples that select what is called stable."""


@dataclass(frozen=True)
class Stability:
    """Likeness of circuits selected from other draws of the examples.

    level: what is selected: "edge", "node" or "neuron".
    resample_jaccard: of a bootstrap resample's circuit and the circuit. split_half_jaccard: of the
        circuits of two random disjoint halves. control: of the circuit and those of random scores.
        Each is a mean with the central 95 % of the draws.
    frequencies: of each edge (node, neuron) that any resample selected, the share of resamples that
        did, highest first where it was counted just now. It is itself a statement of uncertainty
        over examples, and so has no interval.
    chance: that share for one picked at random.
    circuit: the names of the circuit's own. n_stable: how many of them at least 95 % of the
        resamples select.
    n_resamples: draws of each kind.
    """

    level: Level
    resample_jaccard: Estimate
    split_half_jaccard: Estimate
    control: Estimate
    frequencies: dict[str, float]
    chance: float
    circuit: tuple[str, ...]
    n_stable: int
    n_resamples: int


def stability(
    scores: AnyScores,
    *,
    size: int,
    strategy: Strategy | None = None,
    ranking: Ranking = "absolute",
    positive_ratio: float | None = None,
    prune: bool = True,
    n_resamples: int = 200,
    seed: int = 0,
) -> Stability:
    """Select a circuit again from bootstrap resamples of the examples, and from halves of them.

    No model is run.

    Args:
        scores: with those of single examples (`per_example=True`), of two at least.
        size: edges (nodes, neurons) of the circuit, before pruning.
        strategy: how the ranking becomes an order, as for `select`; None takes "widest-path" for
            edges, "top-n" for nodes and neurons.
        ranking: "absolute", "signed" or "mixed".
        positive_ratio: the share by signed score, of "mixed".
        prune: whether to leave out what is on no path from input to logits.
        n_resamples: bootstrap resamples, and as many splits in halves; at least 2.
        seed: of the draws.

    Returns:
        How alike the circuits are, and how often each edge (node, neuron) is selected.

    Raises:
        CircuitsError: where the scores do not hold single examples, or `n_resamples` is below 2.
    """
    if scores.per_example is None or len(scores.per_example) < 2:
        raise CircuitsError(
            "stability needs the scores of at least two examples one by one; score with "
            "per_example=True (--per-example)"
        )
    if n_resamples < 2:
        raise CircuitsError(f"{n_resamples} resamples: at least 2 are needed")
    candidates = empty_like(scores).candidates

    def select_mask(sample_scores: AnyScores, strategy: Strategy | None = strategy) -> Chosen:
        circuit = select_size(
            sample_scores,
            size,
            strategy=strategy,
            ranking=ranking,
            positive_ratio=positive_ratio,
            prune=prune,
        )
        return circuit.mask.flatten()[candidates]

    n = len(scores.per_example)
    circuit = select_mask(scores)
    counts = (n * resample_weights(n, n_resamples, seed=seed)).round().long()
    share = torch.zeros(len(candidates), dtype=torch.float64)
    resampled = []
    for resample in drawn(scores, [torch.arange(n).repeat_interleave(row) for row in counts]):
        mask = select_mask(resample)
        share += mask
        resampled.append(jaccard(circuit, mask))
    share /= n_resamples
    draw = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n, generator=draw) for _ in range(n_resamples)]
    sides = drawn(scores, [half for order in orders for half in order.tensor_split([n // 2])])
    halves = [jaccard(select_mask(half), select_mask(next(sides))) for half in sides]
    # Random scores have no examples, so no sign is stabler than another: "stable" is "top-n" there.
    unguided = "top-n" if strategy == "stable" else strategy
    shape = scores.per_example.shape[1:]
    random = [
        jaccard(
            circuit, select_mask(with_values(scores, torch.rand(shape, generator=draw)), unguided)
        )
        for _ in range(n_resamples)
    ]
    names = [empty_like(scores).candidate_name(index) for index in candidates.tolist()]
    often = share.argsort(descending=True, stable=True)[: int((share > 0).sum())].tolist()
    return Stability(
        level=empty_like(scores).level,
        resample_jaccard=_central(resampled, n),
        split_half_jaccard=_central(halves, n),
        control=_central(random, n),
        frequencies={names[index]: float(share[index]) for index in often},
        chance=float(share.mean()),
        circuit=tuple(names[index] for index in circuit.nonzero().flatten().tolist()),
        n_stable=int((share[circuit] >= STABLE).sum()),
        n_resamples=n_resamples,
    )


def _central(values: Sequence[float], n: int) -> Estimate:
    """The mean with the central 95 % of the values."""
    distribution = torch.tensor(values, dtype=torch.float64)
    low, high = distribution.quantile(
        torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    ).tolist()
    return Estimate(float(distribution.mean()), low, high, n)
