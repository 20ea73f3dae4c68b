"""What a sweep covers: a request, checked against the model and the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.intervention.patching.labels import position_labels
from circuits.intervention.patching.result import DIRECTIONS, Axis
from circuits.intervention.patching.sites import Site, site_named
from circuits.models import HookedModel
from tasks.pairs import PairBatch, PairSet

Where = Bool[Tensor, "place batch pos"]
ALIGNMENTS = ("start", "end")
_LETTERS = {"head": "h", "KV head": "kv", "neuron": "n"}


@dataclass(frozen=True)
class Plan:
    """The entries along layer, unit and position; a run patches one entry of each.

    by: the axes that are swept. An axis that is not has one entry with all that is patched at once.
    from_end: positions are negative and count from the end of each prompt.
    """

    site: Site
    direction: str
    by: tuple[str, ...]
    layers: tuple[tuple[int, ...], ...]
    units: tuple[tuple[int, ...], ...]
    positions: tuple[tuple[int, ...], ...]
    from_end: bool

    axes: ClassVar[tuple[str, ...]] = ("layer", "unit", "position")

    @classmethod
    def of(
        cls,
        model: HookedModel,
        pairs: PairSet,
        site: str,
        *,
        direction: str,
        by: Sequence[str] | None,
        layers: Sequence[int] | None,
        positions: Sequence[int] | None,
        units: Sequence[int] | None,
        align: str,
    ) -> Plan:
        """Check a request; `CircuitsError` says what is known instead."""
        if model.layout.n_encoder_layers:
            raise CircuitsError(
                f"{type(model.hf).__name__}: activation patching is for decoder-only models; in "
                "others earlier positions may depend on later ones"
            )
        check_direction(direction)
        if align not in ALIGNMENTS:
            raise CircuitsError(f"unknown align {align!r}; known: {', '.join(ALIGNMENTS)}")
        model.validate(pairs)
        found = site_named(site)
        swept = tuple(by or ("layer", "unit" if found.unit else "position"))
        known = cls.axes if found.unit else ("layer", "position")
        for axis in swept:
            if axis not in known:
                raise CircuitsError(
                    f"{found.name} cannot be swept by {axis!r}; it can by {', '.join(known)}"
                )
        longest = max(len(pair) for pair in pairs)
        chosen = (
            _chosen("layer", layers, range(len(model.view.layers))),
            _chosen(found.unit or "unit", units, range(found.tap(model.view.layers[0]).units)),
            _chosen(
                "position", positions, range(-longest, 0) if align == "end" else range(longest)
            ),
        )
        along_layers, along_units, along_positions = (
            tuple((one,) for one in wanted) if axis in swept else (wanted,)
            for axis, wanted in zip(cls.axes, chosen, strict=True)
        )
        return cls(
            found, direction, swept, along_layers, along_units, along_positions, align == "end"
        )

    @property
    def shape(self) -> torch.Size:
        """Number of entries along layer, unit and position."""
        return torch.Size([len(self.layers), len(self.units), len(self.positions)])

    @property
    def swept(self) -> tuple[int, ...]:
        """Places, in `axes`, of those that are swept."""
        return tuple(place for place, axis in enumerate(self.axes) if axis in self.by)

    @property
    def details(self) -> dict[str, Any]:
        """The settings, as a result keeps them."""
        return {
            "by": [self.axes[place] for place in self.swept],
            "layers": [layer for entry in self.layers for layer in entry],
            "units": [unit for entry in self.units for unit in entry] if self.site.unit else None,
            "positions": [place for entry in self.positions for place in entry],
            "align": "end" if self.from_end else "start",
        }

    def axis(self, place: int, model: HookedModel, pairs: PairSet) -> Axis:
        """A swept axis with its labels."""
        values = tuple(entry[0] for entry in (self.layers, self.units, self.positions)[place])
        if place == 0:
            return Axis("layer", values, tuple(f"layer {value}" for value in values))
        if place == 1:
            unit = self.site.unit or "unit"
            return Axis(unit, values, tuple(f"{_LETTERS[unit]}{value}" for value in values))
        return Axis("position", values, position_labels(model, pairs, values))

    def where(self, batch: PairBatch) -> Where:
        """For each entry of positions, the places of each example that it stands for."""
        lengths = batch.mask.sum(dim=1, keepdim=True)
        columns = torch.arange(batch.mask.shape[1], device=lengths.device)
        counted = columns - lengths if self.from_end else columns.expand(len(lengths), -1)
        places = [torch.isin(counted, counted.new_tensor(entry)) for entry in self.positions]
        return torch.stack(places) & batch.mask


def check_direction(direction: str) -> None:
    """Refuse a direction that is not known."""
    if direction not in DIRECTIONS:
        raise CircuitsError(f"unknown direction {direction!r}; known: {', '.join(DIRECTIONS)}")


def _chosen(what: str, wanted: Sequence[int] | None, known: range) -> tuple[int, ...]:
    if wanted is None:
        return tuple(known)
    for one in wanted:
        if one not in known:
            raise CircuitsError(
                f"no {what} {one}: {what}s go from {known.start} to {known.stop - 1} here"
            )
    if not wanted:
        raise CircuitsError(f"no {what} was chosen; leave them out to have all")
    return tuple(dict.fromkeys(wanted))
