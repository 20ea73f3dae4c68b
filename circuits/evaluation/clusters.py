"""Are the prompts of one kind, or do groups of them go by different mechanisms?

Each example has a score for every edge (node, neuron). Its scores are scaled to length 1, so that
what counts is which edges carry it and not how much there is to carry, and the examples are split
in the two groups whose members lie nearest to their own mean (2-means), neither smaller than a
tenth of all or three. How well two groups describe them is the share of the variance that stays
within groups (the cluster index); any cloud of points can be split, and gives some index.

Test against one group: clouds with a single centre, Gaussian with the variances that the examples
have along their principal axes, are split in the same way; p is the share of them whose index is as
low.
Source: Liu et al. (2008), "Statistical Significance of Clustering for High-Dimension,
Low-Sample Size Data" (SigClust), with the sample's own variances. One example of outlying scores is
no group, hence the scaling and the least size.

No model is run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import AnyScores, EdgeScores
from circuits.graph.levels import empty_like
from circuits.options.choices import Level
from circuits.options.evaluation import ClustersConfig
from circuits.runtime import mapped
from circuits.statistics import generator

FEWEST = 8
"""Examples below which there are no groups to speak of."""
LEVEL = 0.05
_NAMED = 5
_STARTS = 8
_ROUNDS = 50


@dataclass(frozen=True)
class Clusters:
    """Two groups of examples, and whether they are more than one cloud cut in two.

    level: what the scores are of.
    within: share of the variance that stays within groups. expected: the mean of that share of
        clouds with one centre. p: how often those have as low a share.
    sizes: of the groups, the larger first. groups: of each example, 0 or 1, in the order of the
        scores.
    telling: what the groups differ most by: names, with the mean scaled score in either group.
    n: examples.
    """

    level: Level
    within: float
    expected: float
    p: float
    sizes: tuple[int, int]
    groups: tuple[int, ...]
    telling: tuple[tuple[str, float, float], ...]
    n: int

    @property
    def has_groups(self) -> bool:
        """Whether more than one group is shown, at the 5 % level."""
        return self.p <= LEVEL


def clusters(scores: AnyScores, *, config: ClustersConfig | None = None, seed: int = 0) -> Clusters:
    """Split the examples in two groups by their scores, and test against one.

    Args:
        scores: with those of single examples (`per_example=True`), of eight at least.
        config: how many examples, and clouds to compare with; None takes the defaults.
        seed: of starts and clouds.

    Returns:
        The groups, and p.

    Raises:
        CircuitsError: where the scores do not hold enough single examples.
    """
    config = config or ClustersConfig()
    per_example = scores.per_example
    if per_example is None or len(per_example) < FEWEST:
        raise CircuitsError(
            f"groups of prompts need the scores of at least {FEWEST} examples one by one; score "
            "with per_example=True (--per-example)"
        )
    per_example = per_example[: config.n_examples]
    n = len(per_example)
    products = _products(scores, n)
    length = products.diagonal().clamp(min=0).sqrt()
    scale = torch.where(length > 0, 1 / length, 0.0)
    points, spread = _coordinates(products * scale[:, None] * scale)
    draw = generator(seed)
    groups, within = _split(points[None], draw)
    clouds = torch.randn(config.n_clouds, n, len(spread), generator=draw, dtype=torch.float64)
    _, by_chance = _split(clouds * spread, draw)
    p = (1 + int((by_chance <= within).sum())) / (1 + config.n_clouds)
    labels = groups[0]
    if int(labels.sum()) * 2 > n:
        labels = 1 - labels
    return Clusters(
        level=empty_like(scores).level,
        within=float(within),
        expected=float(by_chance.mean()),
        p=p,
        sizes=(n - int(labels.sum()), int(labels.sum())),
        groups=tuple(labels.tolist()),
        telling=_telling(scores, labels, scale),
        n=n,
    )


def _products(scores: AnyScores, n: int) -> Float[Tensor, "n n"]:
    """Inner products of the examples, block by block."""
    per_example = scores.per_example
    assert per_example is not None
    edge_mask = scores.mask.flatten() if isinstance(scores, EdgeScores) else None
    total = torch.zeros(n, n, dtype=torch.float64)
    for part, values in mapped.columns(per_example):
        block = values[:n].double()
        if edge_mask is not None:
            block = block * edge_mask[part]
        total += block @ block.T
    return total


def _coordinates(
    products: Float[Tensor, "n n"],
) -> tuple[Float[Tensor, "n axis"], Float[Tensor, " axis"]]:
    """Points along their principal axes, and their standard deviation along each."""
    n = len(products)
    centred = products - products.mean(dim=0) - products.mean(dim=1, keepdim=True) + products.mean()
    values, axes = torch.linalg.eigh(centred)
    real = values > 1e-12 * values.amax().clamp(min=1e-300)
    values, axes = values[real], axes[:, real]
    return axes * values.sqrt(), (values / max(1, n - 1)).sqrt()


def _split(
    points: Float[Tensor, "cloud n axis"], draw: torch.Generator
) -> tuple[Int[Tensor, "cloud n"], Float[Tensor, " cloud"]]:
    """The best of several 2-means, with its share of the variance within groups."""
    clouds, n, _ = points.shape
    centred = points - points.mean(dim=1, keepdim=True)
    total = centred.square().sum(dim=(1, 2))
    best = torch.full((clouds,), torch.inf, dtype=torch.float64)
    groups = torch.zeros(clouds, n, dtype=torch.long)
    least = _least(n)
    for _ in range(_STARTS):
        # Two means are two halves of a line: what counts is the axis that joins them.
        axis = centred[torch.arange(clouds), torch.randint(n, (clouds,), generator=draw)]
        labels = _cut(centred, axis, least)
        for _ in range(_ROUNDS):
            new_labels = _cut(centred, _between(centred, labels), least)
            if bool((new_labels == labels).all()):
                break
            labels = new_labels
        sums = torch.einsum("cn,cna->ca", labels.double(), centred)
        second = labels.sum(dim=1).double()
        # Sums of either group are opposite, as the points are centred.
        apart = sums.square().sum(dim=1) * (1 / second + 1 / (n - second))
        within = torch.where(total > 0, 1 - apart / total, 1.0)
        better = within < best
        best = torch.where(better, within, best)
        groups[better] = labels[better]
    return groups, best


def _least(n: int) -> int:
    """Members of the smallest group."""
    return max(3, -(-n // 10))


def _between(
    points: Float[Tensor, "cloud n axis"], labels: Int[Tensor, "cloud n"]
) -> Float[Tensor, "cloud axis"]:
    sums = torch.einsum("cn,cna->ca", labels.double(), points)
    second = labels.sum(dim=1, keepdim=True).double()
    return sums / second + sums / (points.shape[1] - second)


def _cut(
    points: Float[Tensor, "cloud n axis"], axis: Float[Tensor, "cloud axis"], least: int
) -> Int[Tensor, "cloud n"]:
    """The cut across an axis that leaves least variance along it within the two parts."""
    along = torch.einsum("cna,ca->cn", points, axis)
    n = along.shape[1]
    ordered, order = along.sort(dim=1, stable=True)
    sums = ordered.cumsum(dim=1)[:, :-1]
    first = torch.arange(1, n, dtype=torch.float64)
    gain = sums.square() * (1 / first + 1 / (n - first))
    gain[:, : least - 1] = -1
    gain[:, n - least :] = -1
    split = gain.argmax(dim=1, keepdim=True)
    second = (torch.arange(n) > split).long()
    return torch.zeros_like(order).scatter_(1, order, second)


def _telling(
    scores: AnyScores, labels: Int[Tensor, " n"], scale: Float[Tensor, " n"]
) -> tuple[tuple[str, float, float], ...]:
    """Edges (nodes, neurons) whose mean scaled score differs most between the groups."""
    per_example = scores.per_example
    assert per_example is not None
    n, nothing = len(labels), empty_like(scores)
    weights = torch.stack([(labels == group).double() for group in (0, 1)])
    weights = weights / weights.sum(dim=1, keepdim=True) * scale
    means = torch.zeros(2, per_example[0].numel(), dtype=torch.float64)
    for part, values in mapped.columns(per_example):
        means[:, part] = weights @ values[:n].double()
    candidates = nothing.candidates
    apart = (means[0] - means[1]).abs()[candidates]
    most = candidates[apart.argsort(descending=True, stable=True)[:_NAMED]].tolist()
    return tuple(
        (nothing.candidate_name(candidate), float(means[0, candidate]), float(means[1, candidate]))
        for candidate in most
    )
