"""Pairs of the same task made otherwise, as `circuits evaluate --variant` names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from circuits.cli import options as use
from circuits.errors import CircuitsError

if TYPE_CHECKING:
    from circuits.models import HookedModel
    from tasks.named_splits import Split
    from tasks.pairs import PairSet

_SEED = "seed"


def variant_pairs(
    variants: Sequence[str],
    task: str,
    source: use.DataOptions,
    model: HookedModel,
    split: Split | None,
    seed: int,
) -> dict[str, PairSet]:
    """Pair sets by the text of their variant.

    Args:
        variants: each names options to change, as in "corruption=swap" or "template=2,seed=7";
            `seed` draws other examples of the split.
        task: name of the task.
        source: where its examples come from, with the options that are changed.
        model: that they are made for.
        split: part of the examples.
        seed: of the draw where none is named.

    Returns:
        As many pairs each as were asked for.

    Raises:
        CircuitsError: where an option is not known, or names a condition twice.
    """
    made: dict[str, PairSet] = {}
    for variant in variants:
        if variant in made:
            raise CircuitsError(f"--variant {variant} is named twice")
        changed, drawn = [], seed
        for option in variant.split(","):
            key, equals, value = option.partition("=")
            if not equals or not value:
                raise CircuitsError(
                    f"--variant {variant!r}: write key=value, as in corruption=swap"
                )
            if key != _SEED:
                changed.append(option)
            elif value.isdecimal():
                drawn = int(value)
            else:
                raise CircuitsError(f"--variant {variant!r}: seed is a whole number")
        # What is named later wins.
        options = [*(source.task_option or ()), *changed]
        loaded = use.load_task(task, replace(source, task_option=options))
        made[variant] = use.load_pairs(loaded, model, source.n, split, drawn)
    return made
