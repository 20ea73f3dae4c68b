"""Where gates begin: in the order of scores that were made before."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph import AnyScores, NodeScores
from circuits.graph.levels import empty_like
from circuits.masks.hard_concrete import shifted_to
from circuits.options.masks import MaskConfig

LIMIT = 12.0
"""Logits stay within this: any gate can come back, and the probabilities can be told apart."""

_MOST = 0.95  # of all gates may be open at first


def places_of(scores: AnyScores) -> Int[Tensor, " gate"]:
    """The places of what a circuit can be made of, among all scores one after the other.

    Args:
        scores: of edges, nodes or neurons.

    Returns:
        Rising places.
    """
    return empty_like(scores).candidates.sort().values


def flat(scores: AnyScores) -> Float[Tensor, " place"]:
    """All scores one after the other."""
    return scores.values if isinstance(scores, NodeScores) else scores.matrix.flatten()


def first_logits(scores: AnyScores, config: MaskConfig) -> Float[Tensor, " gate"]:
    """Logits of the gates at the beginning.

    A gate's logit grows by `contrast` where the score is e times as large, whatever its sign: what
    works against the behaviour is a part of the model too. Then all are moved together until
    `start` times the size are open on average.

    Args:
        scores: what to begin from.
        config: size, start and contrast.

    Returns:
        One for each of `places_of`.

    Raises:
        CircuitsError: for a size that the model does not have, and scores that are all 0.
    """
    worth = flat(scores)[places_of(scores)].abs().double()
    level = empty_like(scores).level
    if config.size >= len(worth):
        raise CircuitsError(
            f"a mask of {config.size} {level}s; this model has {len(worth)}, and less is to be left"
        )
    if not worth.any():
        raise CircuitsError(
            f"all scores of {level}s are 0, so no mask can begin from them; begin from others, or "
            'from random ones (method "random")'
        )
    logs = worth.clamp(min=float(worth[worth > 0].min())).log()
    logits = config.contrast * (logs - logs.topk(config.size).values[-1])
    begin = logits.clamp(-LIMIT, LIMIT).float()
    return shifted_to(begin, min(config.start * config.size, _MOST * len(worth)))
