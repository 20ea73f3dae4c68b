"""What scores must share to be compared example by example."""

from __future__ import annotations

from collections.abc import Sequence

from circuits.errors import CircuitsError
from circuits.graph.scores import EdgeScores
from circuits.runtime.notices import say

MIN_EXAMPLES = 8
_OF_COST = ("force",)  # settings that no score depends on


def require_paired(scores: Sequence[EdgeScores], names: Sequence[str]) -> None:
    """Refuse scores of other shapes, methods, settings, metrics or examples, or too few examples.

    A setting or metric that is not recorded is taken to be the same.
    Raises CircuitsError naming both sides of what differs. Models in several precisions are taken,
    and that they are is said.
    """
    first = scores[0]
    for name, other in zip(names, scores, strict=True):
        if other.layout != first.layout:
            raise CircuitsError(
                f"{names[0]} and {name} are models of different shapes: "
                f"{first.layout.summary} ({first.layout.shape[0]} x {first.layout.shape[1]}) and "
                f"{other.layout.summary} ({other.layout.shape[0]} x {other.layout.shape[1]})"
            )
        if other.per_example is None:
            raise CircuitsError(
                f"{name}: its scores were kept as a mean only; paired statistics need them per "
                "example, so score it again with per_example=True (discover --per-example)"
            )
        if other.method != first.method:
            raise CircuitsError(
                f"{names[0]} was scored by {first.method} and {name} by {other.method}; "
                "score both by one method"
            )
        _require_one_way(first, other, f"{names[0]} and {name}")
        if _fingerprint(other, name) != _fingerprint(first, names[0]):
            raise CircuitsError(
                f"{names[0]} and {name} were scored on different examples; paired statistics need "
                "the same pairs for every checkpoint"
            )
        if len(other.per_example) < MIN_EXAMPLES:
            raise CircuitsError(
                f"{name}: {len(other.per_example)} examples; resampling needs at least "
                f"{MIN_EXAMPLES}"
            )
    if line := other_precision(scores, names):
        say(line)


def other_precision(scores: Sequence[EdgeScores], names: Sequence[str]) -> str | None:
    """A line on models that were scored in several precisions; None where they are of one.

    Args:
        scores: of the models, as far as they tell.
        names: of the models.

    Returns:
        Which model was in which, and that differences may come of it.
    """
    models = [s.provenance.model for s in scores]
    precisions = {
        name: model.precision
        for name, model in zip(names, models, strict=True)
        if model is not None
    }
    if len(set(precisions.values())) < 2:
        return None
    text = ", ".join(f"{name} in {precision}" for name, precision in precisions.items())
    return f"models of other precision are compared: {text}; what differs may come of that alone"


def _require_one_way(first: EdgeScores, other: EdgeScores, pair: str) -> None:
    """One metric, and one value of every setting of the method."""
    ours, theirs = (
        {"metric": scores.provenance.metric, **scores.provenance.settings}
        for scores in (first, other)
    )
    for key in sorted(ours.keys() & theirs.keys() - set(_OF_COST)):
        if None not in (ours[key], theirs[key]) and ours[key] != theirs[key]:
            raise CircuitsError(
                f"{pair} were scored with different {key}, {ours[key]} and {theirs[key]}; their "
                f"scores differ for that alone, so score both with one"
            )


def _fingerprint(scores: EdgeScores, name: str) -> str:
    if scores.provenance.data is None:
        raise CircuitsError(f"{name}: its scores do not say which examples they are of")
    return scores.provenance.data.fingerprint
