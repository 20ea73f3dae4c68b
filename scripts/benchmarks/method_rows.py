"""The rows of the table of methods (methods.py): how each one makes its scores of edges.

Registered methods at their defaults and with the settings that `known_edges.py` tries; EAP-IG's
first edges with their exact effects; learned masks; ensembles. What needs other rows' scores names
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from known_edges import CHOICES

from circuits.attribution import attribute, method, patch_edges
from circuits.attribution.method import Method
from circuits.graph import EdgeScores
from circuits.graph.ensemble import ensemble
from circuits.masks import MaskConfig, learn_mask
from circuits.models import HookedModel
from circuits.options.choices import Strategy
from tasks.pairs import PairSet

Made = Callable[[HookedModel, PairSet, Sequence[EdgeScores]], EdgeScores]
"""Scores from a model, pairs, and the scores of the rows that a row is made from."""

BASE = "eap-ig"
SHARE = 0.01  # of the edges: the circuit that masks are learned for
REFINED = 100  # edges
EPOCHS, PAIRS_PER_STEP = 30, 4  # as docs/masks.md has them


@dataclass(frozen=True)
class Row:
    """How a row of the table comes about.

    make: its scores. members: names of the rows that it is made from. strategy: by which edges
        enter its circuits; None takes the default.
    """

    make: Made
    members: tuple[str, ...] = ()
    strategy: Strategy | None = None


def _attributed(
    choice: Callable[[], Method], model: HookedModel, pairs: PairSet, _: Sequence[EdgeScores]
) -> EdgeScores:
    return attribute(model, pairs, choice(), per_example=True)


def _refined(model: HookedModel, pairs: PairSet, members: Sequence[EdgeScores]) -> EdgeScores:
    (scores,) = members
    return patch_edges(model, pairs, [name for name, _ in scores.top(REFINED)]).refine(scores)


def _masked(model: HookedModel, pairs: PairSet, members: Sequence[EdgeScores]) -> EdgeScores:
    (scores,) = members
    size = max(1, round(SHARE * model.layout.n_edges))
    config = MaskConfig(size, epochs=EPOCHS, pairs_per_step=PAIRS_PER_STEP)
    learned = learn_mask(model, scores, pairs, config).scores
    assert isinstance(learned, EdgeScores)
    return learned


def _together(_: HookedModel, __: PairSet, members: Sequence[EdgeScores]) -> EdgeScores:
    combined = ensemble(members)
    assert isinstance(combined, EdgeScores)
    return combined


def _as_they_are(_: HookedModel, __: PairSet, members: Sequence[EdgeScores]) -> EdgeScores:
    (scores,) = members
    return scores


ROWS: dict[str, Row] = {
    **{name: Row(partial(_attributed, choice)) for name, choice in CHOICES.items()},
    "exact": Row(partial(_attributed, partial(method, "exact"))),  # not forced: it would take days
    "eap-ig, top-n": Row(_as_they_are, (BASE,), "top-n"),
    f"eap-ig, first {REFINED} exact": Row(_refined, (BASE,)),
    "eap-ig + gim": Row(_together, (BASE, "gim")),
    "eap-ig + relp": Row(_together, (BASE, "relp")),
    "eap-ig + eap + gim + relp": Row(_together, (BASE, "eap", "gim", "relp")),
    "mask": Row(_masked, (BASE,)),
    "mask from gim": Row(_masked, ("gim",)),
    "eap-ig + mask": Row(_together, (BASE, "mask")),
    "eap-ig + gim + mask": Row(_together, (BASE, "gim", "mask")),
}
"""All rows by name. Those of several members weigh them alike."""
