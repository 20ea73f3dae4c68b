"""Is an answer right? Of a model, a circuit, or any other run.

Where a pair has wrong answers: whether the best right token has a larger logit than the best wrong
one. Elsewhere: the share of the answer positions whose most likely token of the whole vocabulary is
a right one. Intervals: Wilson's for a share of examples (Wilson 1927), else bootstrap.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from jaxtyping import Float
from torch import Tensor

from circuits.metrics import Logits, per_example
from circuits.statistics import LEVEL
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairBatch, PairSet

_NORMAL = NormalDist().inv_cdf((1 + LEVEL) / 2)


def is_choice(pairs: PairSet) -> bool:
    """Whether a right answer is one that is above the wrong ones: where all pairs have such."""
    return all(any(pair.wrong) for pair in pairs)


def right(logits: Logits, batch: PairBatch, choice: bool) -> Float[Tensor, " batch"]:
    """Share of an example's answer positions at which a run is right."""
    if not choice:
        hit = (logits.argmax(dim=-1)[:, None] == batch.answer).any(dim=1)
        return per_example(hit.to(logits.dtype), batch)
    best = [
        logits.gather(1, tokens.clamp(min=0)).masked_fill(tokens < 0, -math.inf).amax(dim=1)
        for tokens in (batch.answer, batch.wrong)
    ]
    ahead = (best[0] > best[1]).to(logits.dtype)
    return per_example(ahead, batch, (batch.wrong >= 0).any(dim=1))


def share_right(values: Float[Tensor, " example"], seed: int) -> Estimate:
    """A mean of shares: Wilson's interval where each example is right or wrong, else bootstrap."""
    n, mean = len(values), float(values.mean())
    if not ((values == 0) | (values == 1)).all():
        return estimates(values[:, None], lambda means: means, seed=seed)[0]
    # Ours, since SciPy's `binomtest` tests as well: 3 ms, and a curve has thirty shares.
    square = _NORMAL**2 / n
    centre = (mean + square / 2) / (1 + square)
    reach = math.sqrt(mean * (1 - mean) * square + square**2 / 4) / (1 + square)
    return Estimate(mean, max(0.0, centre - reach), min(1.0, centre + reach), n)
