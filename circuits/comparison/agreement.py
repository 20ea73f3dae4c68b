"""How alike the circuits of two checkpoints are, beside how alike one checkpoint is to itself.

Two checkpoints scored on the same examples share those examples' noise, so their likeness cannot be
held against that of two independent samples; and two bootstrap resamples share examples too. Both
sides are therefore measured on disjoint halves of the examples, many times:

    across = likeness of one checkpoint on one half and the other checkpoint on the other half
    noise  = likeness of one checkpoint on the two halves (mean of the two checkpoints)

If fine-tuning changed nothing, the two have the same distribution; `gap` = across - noise is what
the change adds. Half the examples make noisier circuits than all do, in both, so no correction is
needed to compare them; neither is the likeness at the full sample, which is `value`.

Intervals are delete-d jackknife ones: the spread among random halves of the examples, the share
that is right for what passes a threshold (`subset_interval`). `gap` is a mean over splits, so it is
smoother, and larger subsets are right for it: for margins spread evenly, a share s with all its
splits gives (sqrt(2 - s) - 1) * sqrt(s) / (1 - s) / (sqrt(2) - 1) times the right variance, which
is 1 at s = .76; the few splits here add to it, and .6 is right on average over simulated models.

Degrees of freedom. A likeness of all edges sums over so many that its variance among halves is as
good as known: a normal interval. For circuits of some size, 2 (n - 1), for two checkpoints; n - 1
is too wide at 20 examples. A gap in what is said of nodes rests on the few nodes whose place in the
circuit changes from half to half: a sum of k such contributions is as well known as a chi square of
2 k degrees, with k = (sum v)^2 / sum v^2 (Satterthwaite 1946), v = p (1 - p) and p the share of
halves in which a node is in a checkpoint's circuit. All of this was chosen by what covers on
simulated models, and holds on others (`scripts/check_statistics.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from circuits.comparison.similarity import (
    correlation,
    order_by_size,
    overlap,
    sorted_ranks,
    unit_ranks,
    weighted_jaccard,
)
from circuits.comparison.turnover import Ends, counts_below, turnover
from circuits.graph import Layout
from circuits.runtime.files import number
from circuits.runtime.resume import Pieces, digest
from circuits.statistics import (
    LEVEL,
    half_weights,
    random_halves,
    sign_flips,
    subset_interval,
    subset_weights,
)

SPLITS = 200
SUBSETS = 200
GAP_SUBSETS = 60
GAP_SPLITS = 16
GAP_SHARE = 0.6
PERMUTATIONS = 200
DRAWN = {
    "halves": SUBSETS,
    "splits": SPLITS,
    "gap subsets": GAP_SUBSETS,
    "gap splits": GAP_SPLITS,
    "label swaps": PERMUTATIONS,
}
"""How many samples likeness and turnover come from; a bootstrap's number plays no part."""
_CHUNK = 2**19  # numbers held at once per checkpoint and buffer

WHOLE = ("spearman", "overlap")
SIZED = (
    "edge_jaccard",
    "weighted_jaccard",
    "node_jaccard",
    "node_driven",
    "rewired",
    "rewired_share",
)
OF_NODES = ("node_jaccard", "node_driven", "rewired_share")


@dataclass(frozen=True)
class SimilarityEstimate:
    """A likeness (or turnover) of two checkpoints and its noise ceiling (or floor).

    value, low, high: on all examples, with a 95 % interval for what such a sample gives on average.
    across, noise: between the checkpoints, and of one with itself, on disjoint halves.
    gap, gap_low, gap_high: across - noise, with its 95 % interval. An interval that holds 0: the
        checkpoints are as alike as the number of examples can tell.
    permuted, permuted_low, permuted_high: on all examples when the two checkpoints' labels are
        swapped at random by example: mean and central 95 %. What `value` would be without a change.
    NaN where undefined (the rewired share of no turnover).
    """

    value: float
    low: float
    high: float
    across: float
    noise: float
    gap: float
    gap_low: float
    gap_high: float
    permuted: float
    permuted_low: float
    permuted_high: float

    def to_dict(self) -> dict[str, float | None]:
        """JSON numbers, None where undefined."""
        return {name: number(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Snapshot:
    """Mean scores of one checkpoint on m resamples, and its edges ranked on each."""

    means: Float[Tensor, "m edge"]
    sizes: tuple[int, ...]
    ends: Ends

    @cached_property
    def order(self) -> Int[Tensor, "m edge"]:
        """Edges by |score|, highest first; ties in matrix order, as in `select`."""
        return order_by_size(self.means)

    @cached_property
    def strengths(self) -> Float[Tensor, "m edge"]:
        """|score|, highest first."""
        return self.means.abs().gather(1, self.order)

    @cached_property
    def places(self) -> Int[Tensor, "m edge"]:
        """Where each edge stands in `order`: the inverse permutation."""
        count = torch.arange(self.order.shape[1], dtype=torch.int32)
        places = torch.empty(self.order.shape, dtype=torch.int32)
        return places.scatter_(1, self.order, count.expand(self.order.shape))

    @cached_property
    def nodes(self) -> Int[Tensor, "m node"]:
        """Of each node, the place of its first edge."""
        return self.ends.entry(self.places)

    @cached_property
    def ranks(self) -> Float[Tensor, "m edge"]:
        """Of |score|, ties sharing their mean, scaled for a dot product."""
        return unit_ranks(sorted_ranks(self.strengths, self.order))


def measure(a: Snapshot, b: Snapshot) -> Float[Tensor, "m measure"]:
    """`WHOLE`, then `SIZED` for each size."""
    sizes = a.sizes
    shared, rewired = turnover(a.places, b.places, a.ends.joined(a.nodes, b.nodes), sizes)
    either = 2 * torch.tensor(sizes) - shared
    came_or_went = either - shared
    nodes = counts_below(torch.maximum(a.nodes, b.nodes), sizes).double()
    either_node = counts_below(torch.minimum(a.nodes, b.nodes), sizes)
    sized = (
        shared / either,
        _weighted(a, b),
        nodes / either_node,
        (came_or_went - rewired) / either,
        rewired / either,
        rewired / came_or_went,
    )
    whole = (correlation(a.ranks, b.ranks), weighted_jaccard(a.means, b.means))
    return torch.cat(
        [
            torch.stack(whole, dim=1),
            torch.stack([column.double() for column in sized], dim=2).flatten(1),
        ],
        dim=1,
    )


def _weighted(a: Snapshot, b: Snapshot) -> Float[Tensor, "m size"]:
    """Weighted Jaccard of the circuits at each size; only the edges of both add to it."""
    most = max(a.sizes)
    top = a.order[:, :most]
    theirs = b.means.abs().gather(1, top)
    places = b.places.gather(1, top)
    found = []
    for size in a.sizes:
        mine = a.strengths[:, :size]
        both = torch.where(places[:, :size] < size, theirs[:, :size], 0.0)
        found.append(overlap(mine, both, mine.sum(dim=1), b.strengths[:, :size].sum(dim=1)))
    return torch.stack(found, dim=1)


def agreement(
    scores: Sequence[Float[Tensor, "n edge"]],
    compared: Sequence[tuple[int, int]],
    *,
    layout: Layout,
    sizes: Sequence[int],
    seed: int,
    progress: bool = False,
    resume: Pieces | None = None,
) -> list[list[SimilarityEstimate]]:
    """For each compared pair of checkpoints, its measures in the order of `measure`.

    scores: per-example scores of each checkpoint over the possible edges, in matrix order.
    unfinished: keeps what was measured until the whole is done.
    """
    count = scores[0].shape[0]
    total = 1 + 2 * SUBSETS + SPLITS + GAP_SUBSETS * GAP_SPLITS + PERMUTATIONS
    bar = tqdm(total=total, desc="likeness", unit="sample", disable=not progress)
    identity = {
        "scores": digest(*scores),
        "layout": layout.to_dict(),
        "compared": list(compared),
        "sizes": list(sizes),
        "likeness": DRAWN,
    }
    ends = Ends.of(layout)
    engine = _Engine(scores, compared, tuple(sizes), ends, bar, resume or Pieces(), identity)
    equal = torch.full((1, count), 1 / count, dtype=torch.float64)
    observed, _ = engine.run(equal)
    parts = subset_weights(count, SUBSETS, seed=seed)
    subsets, _ = engine.run(parts)
    known = engine.freedom(parts)
    halves = random_halves(count, SPLITS, seed=seed + 1)
    across, noise = engine.run(*half_weights(equal.expand(SPLITS, -1), halves))
    larger = subset_weights(count, GAP_SUBSETS, share=GAP_SHARE, seed=seed + 2)
    split = half_weights(
        larger.repeat_interleave(GAP_SPLITS, dim=0), halves[:GAP_SPLITS].repeat(GAP_SUBSETS, 1)
    )
    gaps = torch.sub(*engine.run(*split)).unflatten(1, (GAP_SUBSETS, GAP_SPLITS)).nanmean(dim=2)
    permuted = engine.permuted(sign_flips(count, PERMUTATIONS, seed=seed + 3))
    bar.close()
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)

    results = []
    most = torch.full((observed.shape[-1],), 2.0 * (count - 1))
    most[: len(WHOLE)] = math.inf
    lowest = torch.zeros(observed.shape[-1], dtype=torch.float64)
    lowest[WHOLE.index("spearman")] = -1.0
    for place, value in enumerate(observed[:, 0]):
        low, high = subset_interval(value, subsets[place], parts, freedom=most)
        middle, floor = across[place].nanmean(dim=0), noise[place].nanmean(dim=0)
        gap_low, gap_high = subset_interval(
            middle - floor, gaps[place], larger, freedom=torch.minimum(most, known[place])
        )
        columns = (
            *(value, torch.maximum(low, lowest), high.clamp_max(1.0)),
            *(middle, floor, middle - floor, gap_low, gap_high),
            *(permuted[place].nanmean(dim=0), *permuted[place].nanquantile(tails, dim=0)),
        )
        rows = torch.stack(columns, dim=1).tolist()
        results.append([SimilarityEstimate(*row) for row in rows])
    return results


@dataclass(frozen=True)
class _Engine:
    """Measures of every compared pair, in chunks of resamples.

    unfinished: takes a piece a call; identity: what decides a piece, but for its samples.
    """

    scores: Sequence[Float[Tensor, "n edge"]]
    compared: Sequence[tuple[int, int]]
    sizes: tuple[int, ...]
    ends: Ends
    bar: tqdm[NoReturn]
    resume: Pieces = field(default_factory=Pieces)
    identity: Mapping[str, Any] = field(default_factory=dict)

    def run(
        self, first: Float[Tensor, "m n"], second: Float[Tensor, "m n"] | None = None
    ) -> tuple[Float[Tensor, "pair m measure"], Float[Tensor, "pair m measure"]]:
        """Likeness of each pair across the two sets of weights, and of its members to themselves.

        Without a second set both checkpoints get the first, and nothing is compared to itself.
        """
        across, noise = self._empty(len(first)), self._empty(len(first))
        filled = {"across": across, "noise": noise}
        for part in self._todo(len(first), digest(first, second), filled):
            a = self._snapshots(first[part])
            if second is None:
                across[:, part] = torch.stack([measure(a[i], a[j]) for i, j in self.compared])
                continue
            b = self._snapshots(second[part])
            across[:, part] = torch.stack(
                [_mean(measure(a[i], b[j]), measure(a[j], b[i])) for i, j in self.compared]
            )
            own = [measure(left, right) for left, right in zip(a, b, strict=True)]
            noise[:, part] = torch.stack([_mean(own[i], own[j]) for i, j in self.compared])
        return across, noise

    def permuted(self, signs: Float[Tensor, "m n"]) -> Float[Tensor, "pair m measure"]:
        """Likeness of each pair with the labels of some examples swapped: where the sign is -1."""
        kept = (signs > 0).to(self.scores[0].dtype) / signs.shape[1]
        swapped = (signs < 0).to(kept.dtype) / signs.shape[1]
        found = self._empty(len(signs))
        for part in self._todo(len(signs), digest(signs), {"permuted": found}):
            keep, swap = kept[part], swapped[part]
            rows = []
            for i, j in self.compared:
                a, b = self.scores[i], self.scores[j]
                mixed = (keep @ a + swap @ b, keep @ b + swap @ a)
                rows.append(measure(*(Snapshot(one, self.sizes, self.ends) for one in mixed)))
            found[:, part] = torch.stack(rows)
        return found

    def freedom(self, weights: Float[Tensor, "m n"]) -> Float[Tensor, "pair measure"]:
        """Of each pair's measures, the degrees of freedom that nodes leave; infinite for edges.

        weights: halves of the examples. See the head of this file.
        """
        nodes = self.ends.layout.shape[0] + 1  # and the logits
        present = torch.zeros(len(self.scores), len(self.sizes), nodes, dtype=torch.float64)
        for part in self._todo(len(weights), digest(weights), {"present": present}, sums=True):
            for counts, side in zip(present, self._snapshots(weights[part]), strict=True):
                counts += torch.stack([(side.nodes < size).sum(dim=0) for size in self.sizes])
        share = present / len(weights)
        unsure = share * (1 - share)
        found = torch.full((len(self.compared), len(self.sizes), len(SIZED)), math.inf)
        of_nodes = [SIZED.index(name) for name in OF_NODES]
        for row, (i, j) in zip(found, self.compared, strict=True):
            both = torch.cat([unsure[i], unsure[j]], dim=1)
            squares = both.square().sum(dim=1)
            members = torch.where(squares > 0, both.sum(dim=1).square() / squares, 1.0)
            row[:, of_nodes] = 2 * members[:, None].float()
        whole = found.new_full((len(found), len(WHOLE)), math.inf)
        return torch.cat([whole, found.flatten(1)], dim=1)

    def _empty(self, samples: int) -> Float[Tensor, "pair m measure"]:
        measures = len(WHOLE) + len(SIZED) * len(self.sizes)
        return torch.zeros(len(self.compared), samples, measures, dtype=torch.float64)

    def _todo(
        self, samples: int, drawn: str, filled: Mapping[str, Tensor], *, sums: bool = False
    ) -> Iterator[Int[Tensor, " part"]]:
        """Samples that are not done, chunk by chunk; a chunk is done when the next is asked for.

        filled: what they fill. sums: whether it adds them up, so that half a chunk spoils it.
        """
        piece = self.resume.tensors()
        piece.restore(samples, {**self.identity, "samples": drawn}, filled)
        for part in torch.arange(samples).split(max(1, _CHUNK // self.scores[0].shape[1])):
            if not bool(piece.done[part].all()):
                with piece.taking(part) if sums else nullcontext():
                    yield part
                piece.keep(part)
            self.bar.update(len(part))

    def _snapshots(self, weights: Float[Tensor, "m n"]) -> list[Snapshot]:
        return [
            Snapshot(weights.to(values.dtype) @ values, self.sizes, self.ends)
            for values in self.scores
        ]


def _mean(a: Float[Tensor, "m k"], b: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
    """Mean of two measurements; where one is undefined, the other."""
    return torch.stack([a, b]).nanmean(dim=0)
