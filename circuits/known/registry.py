"""All models whose circuit is known, by name."""

from __future__ import annotations

from collections.abc import Callable

from circuits.errors import CircuitsError
from circuits.known.adding_up import adding_up
from circuits.known.backup import backup
from circuits.known.chain import chain
from circuits.known.copying import copying
from circuits.known.counting import counting
from circuits.known.gates import and_gate, or_gate
from circuits.known.greater_than import greater_than
from circuits.known.histogram import histogram
from circuits.known.induction import induction
from circuits.known.lookup import lookup
from circuits.known.majority import majority
from circuits.known.model import KnownModel
from circuits.known.modular_addition import modular_addition
from circuits.known.negative_head import negative_head
from circuits.known.reversal import reversal
from circuits.known.setting import Setting
from circuits.known.sorting import sorting

_BUILDERS: dict[str, Callable[[Setting], KnownModel]] = {
    "induction": induction,
    "lookup": lookup,
    "copying": copying,
    "counting": counting,
    "histogram": histogram,
    "majority": majority,
    "sorting": sorting,
    "reversal": reversal,
    "chain": chain,
    "greater-than": greater_than,
    "modular-addition": modular_addition,
    "and-gate": and_gate,
    "or-gate": or_gate,
    "adding-up": adding_up,
    "backup": backup,
    "negative-head": negative_head,
}


def names() -> tuple[str, ...]:
    """Every model that `load` takes.

    Returns:
        The names.
    """
    return tuple(_BUILDERS)


def load(name: str, *, interference: float = 0.0, sharpness: float = 1.0) -> KnownModel:
    """Write a model whose circuit is known.

    At interference 0.1 and sharpness 3 every task is still solved.

    Args:
        name: one of `names()`.
        interference: how much idle heads and neurons write into the spaces that the circuit uses,
            for each unit that they write elsewhere. At 0 no edge outside the circuit has any
            effect; at 0.1 most have a little, as in a trained model.
        sharpness: what all attention logits are multiplied with. At 1 what a head looks for leads
            by 12; the more, the less a gradient sees of what a head could look at instead.

    Returns:
        The model with its edges, on the CPU; equal arguments give equal weights.

    Raises:
        CircuitsError: for an unknown name, an interference below 0, and a sharpness not above 0.
    """
    if name not in _BUILDERS:
        raise CircuitsError(f"unknown model {name!r}; known: {', '.join(_BUILDERS)}")
    return _BUILDERS[name](Setting(interference, sharpness))
