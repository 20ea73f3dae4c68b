"""How similar the circuits of two checkpoints are, beside how similar one checkpoint is to itself.

Two checkpoints scored on the same examples share those examples' noise, so their similarity must
not be compared with that of two independent samples. Two bootstrap resamples share examples too.
Both sides are therefore measured on disjoint halves of the examples. With s(X, Y) a similarity, A
and B the checkpoints, and 1 and 2 the halves of one random split:

    between = (s(A1, B2) + s(B1, A2)) / 2        mean over splits
    within  = (s(A1, A2) + s(B1, B2)) / 2        mean over splits
    gap     = between - within

If fine-tuning changed nothing, `between` and `within` have the same distribution. Half of the
examples make noisier circuits than all of them do, equally in both, so they can be compared as they
are. Neither is the similarity on all examples, which is `estimate`.

Intervals are of the delete-d jackknife (Shao and Wu 1989): the spread SD over random subsets of a
share r of the n examples (`subset_interval`),

    estimate +- t(f) * SD * sqrt(r / (1 - r))    f degrees of freedom, t(f) Student's quantile

    r   = 0.5 for `estimate`: right for what depends on scores that pass a threshold
    r   = 0.6 for `gap`, which is a mean over splits and so smoother

Why 0.6. If margins to the threshold are spread evenly and every split is used, the variance is

    (sqrt(2 - r) - 1) * sqrt(r) / ((1 - r) * (sqrt(2) - 1))

times the right one, which is 1 at r = 0.76. The few splits used here add variance; over simulated
models 0.6 is right on average.

Degrees of freedom:

    f = infinity        all edges: the sum has so many terms that SD is as good as known
    f = 2 (n - 1)       circuits of one size: n - 1 gives intervals that are too wide at n = 20
    f = min(2 (n - 1), 2 (sum v)^2 / sum v^2)    gaps of node measures

The last is Satterthwaite's (1946). v = p (1 - p) for each node and checkpoint, with p the share of
halves in which the node is in that checkpoint's circuit: such a gap depends on the few nodes that
are in the circuit of some halves only. These choices are those that cover the truth on simulated
models; `scripts/check_statistics.py` checks them on others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import NoReturn

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from circuits.comparison.circuit_similarity import SampleCounts, SimilarityEstimate
from circuits.comparison.snapshot import OF_NODES, SIZED, WHOLE, Snapshot, similarities
from circuits.comparison.turnover import EdgeNodes
from circuits.graph.edge_values import EdgeValues
from circuits.runtime.resume import Pieces, digest
from circuits.statistics import (
    LEVEL,
    half_weights,
    random_halves,
    sign_flips,
    subset_interval,
    subset_weights,
)
from circuits.statistics.estimate import Estimate

SPLITS = 200
SUBSETS = 200
GAP_SUBSETS = 60
GAP_SPLITS = 16
GAP_SHARE = 0.6
PERMUTATIONS = 200
DRAWN = SampleCounts(
    halves=SUBSETS,
    splits=SPLITS,
    gap_subsets=GAP_SUBSETS,
    gap_splits=GAP_SPLITS,
    label_swaps=PERMUTATIONS,
)
_CHUNK = 2**19  # numbers held at once per checkpoint and buffer
_MEANS = 2**28  # mean scores held at once, of all checkpoints: 1 GiB; fewer would mean more reading


def agreement(
    scores: Sequence[EdgeValues],
    compared: Sequence[tuple[int, int]],
    *,
    sizes: Sequence[int],
    seed: int,
    progress: bool = False,
    resume: Pieces | None = None,
) -> list[list[SimilarityEstimate]]:
    """For each compared pair of checkpoints, its measures in the order of `similarities`.

    scores: per-example scores of each checkpoint.
    resume: keeps what was measured until all is done.
    """
    count, layout = len(scores[0]), scores[0].layout
    total = 1 + SUBSETS + SPLITS + GAP_SUBSETS * GAP_SPLITS + PERMUTATIONS
    bar = tqdm(total=total, desc="similarity", unit="sample", disable=not progress)
    identity = {
        "scores": [values.summary.digest for values in scores],
        "layout": layout.to_dict(),
        "compared": list(compared),
        "sizes": list(sizes),
        "samples": asdict(DRAWN),
    }
    nodes = EdgeNodes.of(layout)
    engine = _Engine(scores, compared, tuple(sizes), nodes, bar, resume or Pieces(), identity)
    # The values, on all examples, and their spread over random halves.
    equal = torch.full((1, count), 1 / count, dtype=torch.float64)
    observed, _ = engine.run(equal)
    parts = subset_weights(count, SUBSETS, seed=seed)
    presence = engine.no_node()
    subsets, _ = engine.run(parts, presence=presence)
    freedom_of_nodes = engine.freedom(presence / SUBSETS)
    # Between and within, on the two halves of random splits.
    halves = random_halves(count, SPLITS, seed=seed + 1)
    between, within = engine.run(*half_weights(equal.expand(SPLITS, -1), halves))
    # The spread of the gap: each larger subset is split several times, as the whole sample is.
    larger = subset_weights(count, GAP_SUBSETS, share=GAP_SHARE, seed=seed + 2)
    split = half_weights(
        larger.repeat_interleave(GAP_SPLITS, dim=0), halves[:GAP_SPLITS].repeat(GAP_SUBSETS, 1)
    )
    gaps = torch.sub(*engine.run(*split))
    gaps = rearrange(gaps, "pair (subset split) k -> pair subset split k", subset=GAP_SUBSETS)
    gaps = gaps.nanmean(dim=2)
    permuted = engine.permuted(sign_flips(count, PERMUTATIONS, seed=seed + 3))
    bar.close()
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)

    results = []
    freedom = torch.full((observed.shape[-1],), 2.0 * (count - 1))
    freedom[: len(WHOLE)] = math.inf
    lowest = torch.zeros(observed.shape[-1], dtype=torch.float64)
    lowest[WHOLE.index("spearman")] = -1.0  # all others lie in 0 to 1
    for pair, value in enumerate(observed[:, 0]):
        low, high = subset_interval(value, subsets[pair], parts, freedom=freedom)
        ours, ceiling = between[pair].nanmean(dim=0), within[pair].nanmean(dim=0)
        gap_low, gap_high = subset_interval(
            ours - ceiling,
            gaps[pair],
            larger,
            freedom=torch.minimum(freedom, freedom_of_nodes[pair]),
        )
        columns = (
            *(value, torch.maximum(low, lowest), high.clamp_max(1.0)),
            *(ours, ceiling, ours - ceiling, gap_low, gap_high),
            *(permuted[pair].nanmean(dim=0), *permuted[pair].nanquantile(tails, dim=0)),
        )
        rows = torch.stack(columns, dim=1).tolist()
        results.append([_estimate(row, count) for row in rows])
    return results


def _estimate(row: Sequence[float], n: int) -> SimilarityEstimate:
    value, low, high, between, within, gap, gap_low, gap_high, *permuted = row
    mean, least, most = permuted
    return SimilarityEstimate(
        Estimate(value, low, high, n),
        between,
        within,
        Estimate(gap, gap_low, gap_high, n),
        Estimate(mean, least, most, n),
    )


@dataclass(frozen=True)
class _Engine:
    """Similarities of every compared pair, in chunks of resamples.

    resume: takes a piece for each call. identity: what decides a piece, apart from its samples.
    """

    scores: Sequence[EdgeValues]
    compared: Sequence[tuple[int, int]]
    sizes: tuple[int, ...]
    edge_nodes: EdgeNodes
    bar: tqdm[NoReturn]
    resume: Pieces = field(default_factory=Pieces)
    identity: Mapping[str, object] = field(default_factory=dict)

    def run(
        self,
        first: Float[Tensor, "m n"],
        second: Float[Tensor, "m n"] | None = None,
        *,
        presence: Float[Tensor, "checkpoint size node"] | None = None,
    ) -> tuple[Float[Tensor, "pair m measure"], Float[Tensor, "pair m measure"]]:
        """Similarity of each pair, between the two sets of weights and within each checkpoint.

        Without a second set both checkpoints get the first; `within` is then left empty.

        presence: from `no_node`; counts in how many samples each node is in each circuit. For one
            set of weights only.
        """
        between, within = self._empty(len(first)), self._empty(len(first))
        filled = {"between": between, "within": within}
        if presence is not None:
            filled["presence"] = presence
        weights = (first,) if second is None else (first, second)
        for part, means in self._todo(weights, filled, sums=presence is not None):
            a, *others = (self._snapshots(side) for side in means)
            if not others:
                between[:, part] = torch.stack([similarities(a[i], a[j]) for i, j in self.compared])
                if presence is not None:
                    for counts, side in zip(presence, a, strict=True):
                        numbers = range(len(self.sizes))
                        counts += torch.stack([(side.node_entry <= c).sum(dim=0) for c in numbers])
                continue
            (b,) = others
            between[:, part] = torch.stack(
                [
                    _mean(similarities(a[i], b[j]), similarities(a[j], b[i]))
                    for i, j in self.compared
                ]
            )
            self_similarity = [similarities(left, right) for left, right in zip(a, b, strict=True)]
            within[:, part] = torch.stack(
                [_mean(self_similarity[i], self_similarity[j]) for i, j in self.compared]
            )
        return between, within

    def permuted(self, signs: Float[Tensor, "m n"]) -> Float[Tensor, "pair m measure"]:
        """Similarity of each pair, with the labels of the examples of sign -1 swapped."""
        weights = [side.float() / signs.shape[1] for side in (signs > 0, signs < 0)]
        similarity = self._empty(len(signs))
        for part, (unswapped, swapped) in self._todo(weights, {"permuted": similarity}):
            similarity[:, part] = torch.stack(
                [
                    similarities(
                        *self._snapshots([unswapped[i] + swapped[j], unswapped[j] + swapped[i]]),
                    )
                    for i, j in self.compared
                ]
            )
        return similarity

    def no_node(self) -> Float[Tensor, "checkpoint size node"]:
        """Counts of 0, for `run`."""
        nodes = self.edge_nodes.layout.shape[0] + 1  # and the logits
        return torch.zeros(len(self.scores), len(self.sizes), nodes, dtype=torch.float64)

    def freedom(
        self, share: Float[Tensor, "checkpoint size node"]
    ) -> Float[Tensor, "pair measure"]:
        """Degrees of freedom of each pair's node measures; infinite for the others.

        share: of halves of the examples in which the node is in the circuit (p). See the formulas
            at the head of this file.
        """
        unsure = share * (1 - share)  # v = p (1 - p), 0 for a node that is always or never there
        degrees = torch.full((len(self.compared), len(self.sizes), len(SIZED)), math.inf)
        of_nodes = [SIZED.index(name) for name in OF_NODES]
        for row, (i, j) in zip(degrees, self.compared, strict=True):
            node_variances = torch.cat([unsure[i], unsure[j]], dim=1)
            squares = node_variances.square().sum(dim=1)
            members = torch.where(squares > 0, node_variances.sum(dim=1).square() / squares, 1.0)
            row[:, of_nodes] = 2 * members[:, None].float()
        unsized = degrees.new_full((len(degrees), len(WHOLE)), math.inf)
        return torch.cat([unsized, degrees.flatten(1)], dim=1)

    def _empty(self, samples: int) -> Float[Tensor, "pair m measure"]:
        measures = len(WHOLE) + len(SIZED) * len(self.sizes)
        return torch.zeros(len(self.compared), samples, measures, dtype=torch.float64)

    def _todo(
        self,
        weights: Sequence[Float[Tensor, "m n"]],
        filled: Mapping[str, Tensor],
        *,
        sums: bool = False,
    ) -> Iterator[tuple[Int[Tensor, " part"], list[list[Float[Tensor, "part edge"]]]]]:
        """Samples that are not done, chunk by chunk; a chunk is done when the next is asked for.

        With each comes its mean scores: by each set of weights, those of each checkpoint. Values
        that are read from a file are walked over once for as many chunks as `_MEANS` holds.

        filled: what they fill. sums: whether it adds them up, so that half a chunk spoils it.
        """
        samples, edges = len(weights[0]), len(self.scores[0].flat_indices)
        piece = self.resume.tensors()
        piece.restore(samples, {**self.identity, "drawn": digest(*weights)}, filled)
        size = max(1, _CHUNK // edges)
        numbers = size * edges * len(self.scores) * len(weights)
        walk = size
        if not all(values.in_one_block for values in self.scores):
            walk *= max(1, _MEANS // numbers)
        of_checkpoints: list[list[Tensor]] = []
        for walked in torch.arange(samples).split(walk):
            of_checkpoints.clear()  # before the next are made
            # All of them, done or not: what goes on has to round as what never stopped does.
            if not bool(piece.done[walked].all()):
                sets = [w[walked] for w in weights]
                of_checkpoints += [values.resampled(*sets) for values in self.scores]
            for part in walked.split(size):
                if not bool(piece.done[part].all()):
                    offsets = part - walked[0]  # by places, which copies: nobody holds a whole walk
                    means = [
                        [checkpoint_means[offsets] for checkpoint_means in side]
                        for side in zip(*of_checkpoints, strict=True)
                    ]
                    with piece.taking(part) if sums else nullcontext():
                        yield part, means
                    piece.keep(part)
                self.bar.update(len(part))

    def _snapshots(self, means: Sequence[Float[Tensor, "m edge"]]) -> list[Snapshot]:
        return [Snapshot(m, self.sizes, self.edge_nodes) for m in means]


def _mean(a: Float[Tensor, "m k"], b: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
    """Mean of two measurements; where one is undefined, the other."""
    return torch.stack([a, b]).nanmean(dim=0)
