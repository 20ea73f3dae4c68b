"""Several scores of one model as one: a parallel ensemble (Mondorf et al. 2025, arXiv:2510.06811).

Members are of one level and layout: other methods, corruptions, metrics, seeds, or a learned mask.
They are made comparable first, for a score in nats, one in logits and a probability are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.levels import AnyScores, empty_like
from circuits.graph.node_scores import NodeScores
from circuits.graph.provenance import Provenance
from circuits.graph.scores import EdgeScores
from circuits.options.ensemble import EnsembleConfig, Scale

METHOD = "ensemble"

Values = Float[Tensor, "*place"]


def ensemble(
    members: Sequence[AnyScores],
    weights: Sequence[float] | None = None,
    config: EnsembleConfig | None = None,
) -> AnyScores:
    """Put scores together.

    Args:
        members: two or more, of the same edges, nodes or neurons.
        weights: one a member, 0 or more; None takes all alike. Only their proportions count.
        config: how; None takes the weighted mean of scores over their mean size.

    Returns:
        Scores without a unit. Their provenance names the members, and all pairs that one of them
        was made from.

    Raises:
        CircuitsError: for one member, members of different models or levels, scores that are all 0,
            and weights that do not fit.
    """
    config = config or EnsembleConfig()
    shares = _shares(members, weights, config)
    values = torch.stack([_comparable(member, config.scale) for member in members])
    by_size = values.abs() * _along(shares, values)
    if config.reduction == "mean":
        combined = (values * _along(shares, values)).sum(dim=0)
    else:
        member_index = by_size.argmax(dim=0) if config.reduction == "max" else by_size.argmin(dim=0)
        combined = values.gather(0, member_index[None])[0] * shares.to(values)[member_index]
    provenance = _provenance(members, shares, config)
    if isinstance(members[0], EdgeScores):
        return EdgeScores(combined.float(), members[0].layout, METHOD, provenance)
    return NodeScores(combined.float(), members[0].layout, members[0].widths, METHOD, provenance)


def _shares(
    members: Sequence[AnyScores], weights: Sequence[float] | None, config: EnsembleConfig
) -> Float[Tensor, " member"]:
    if len(members) < 2:
        raise CircuitsError(f"an ensemble of {len(members)}; give two scores or more")
    first = members[0]
    for number, member in enumerate(members[1:], start=2):
        same = (member.layout, empty_like(member).level) == (first.layout, empty_like(first).level)
        if not same:
            raise CircuitsError(
                f"member {number} is of {empty_like(member).level}s of {member.layout.summary}, "
                f"and the first of {empty_like(first).level}s of {first.layout.summary}"
            )
    member_weights = (
        torch.ones(len(members))
        if weights is None
        else torch.tensor([*weights], dtype=torch.float64)
    )
    if len(member_weights) != len(members):
        raise CircuitsError(
            f"{len(member_weights)} weights for {len(members)} members; give one each"
        )
    if not (
        torch.isfinite(member_weights).all()
        and (member_weights >= 0).all()
        and member_weights.any()
    ):
        raise CircuitsError(
            f"weights {member_weights.tolist()}: each must be 0 or more, and one above 0"
        )
    if config.reduction == "min" and not (member_weights > 0).all():
        raise CircuitsError("the smallest of all scores takes weights above 0")
    return member_weights.double() / member_weights.double().sum()


def _comparable(scores: AnyScores, scale: Scale) -> Values:
    """In double, the impossible and what enters the model as they are: 0, or a node's score."""
    values = (scores.values if isinstance(scores, NodeScores) else scores.matrix).double()
    candidates = empty_like(scores).candidates
    size = values.flatten()[candidates].abs()
    if not size.any():
        raise CircuitsError(f"scores by {scores.method} are all 0 and say nothing")
    if scale == "size":
        return values / size.mean()
    ranks = torch.zeros_like(values.flatten())
    order = torch.argsort(size, stable=True)
    ranks[candidates[order]] = torch.linspace(0, 1, len(candidates), dtype=torch.float64)
    return ranks.view(values.shape) * values.sign()


def _along(shares: Float[Tensor, " member"], values: Tensor) -> Tensor:
    return shares.view(-1, *[1] * (values.ndim - 1))


def _provenance(
    members: Sequence[AnyScores], shares: Float[Tensor, " member"], config: EnsembleConfig
) -> Provenance:
    provenances = [member.provenance for member in members]
    named = {
        f"member_{number}": f"{member.method} x {share:.4g}"
        for number, (member, share) in enumerate(
            zip(members, shares.tolist(), strict=True), start=1
        )
    }
    first = provenances[0]
    alike = {
        part: getattr(first, part)
        for part in ("metric", "model", "data", "task", "versions")
        if all(getattr(p, part) == getattr(first, part) for p in provenances)
    }
    known_pairs = [p.pairs for p in provenances if p.pairs is not None]
    return Provenance(
        **alike,
        settings={"reduction": config.reduction, "scale": config.scale, **named},
        pairs=tuple(dict.fromkeys(mark for pairs in known_pairs for mark in pairs))
        if known_pairs
        else None,
    )
