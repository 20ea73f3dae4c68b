"""What a quantised model is told of itself before it is scored."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import typer

from circuits.cli.options import load_hooked
from circuits.errors import CircuitsError
from circuits.options.model import ModelOptions
from circuits.options.run import RunOptions

if TYPE_CHECKING:
    from circuits.attribution.method import Method
    from circuits.models import HookedModel
    from tasks.pairs import PairSet

_BY_ITSELF = "nf4"  # 8 bits leave the ranking nearly as it is
_OTHERWISE = "eap"  # where the scores are not of gradients: a run an edge, or chance


def require_quantised(model: ModelOptions, compare: bool | None) -> None:
    """Refuse a comparison of precisions where there is one.

    compare: what --compare-precision says.
    """
    if compare and model.quantize is None:
        raise CircuitsError("--compare-precision goes with --quantize int8 or nf4")


def say_precision(
    hooked: HookedModel,
    model: ModelOptions,
    pairs: PairSet,
    method: Method,
    compare: bool | None,
    *,
    metric: str | None,
    options: RunOptions,
) -> None:
    """Say that a quantised model is one, and what that does to its scores, where this is asked for.

    compare: what --compare-precision says; None compares 4 bits.
    """
    from circuits.attribution.method import GradientMethod
    from circuits.comparison.precision import beside_unquantised, precision_of

    note = precision_of(hooked)
    if note is None:
        return
    if model.quantize is not None and (
        compare or (compare is None and model.quantize == _BY_ITSELF)
    ):
        note = beside_unquantised(
            hooked,
            pairs,
            method if isinstance(method, GradientMethod) else _OTHERWISE,
            partial(load_hooked, model.model, replace(model, quantize=None)),
            replace(options, engine=None),
            metric,
        )
    typer.echo(note)
