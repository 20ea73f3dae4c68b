"""What a sweep covers: a request, checked against the model and the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.intervention.patching.labels import position_labels
from circuits.intervention.patching.result import Axis
from circuits.intervention.patching.sites import Site, site_named
from circuits.models import HookedModel
from circuits.options.choices import Direction, SweepAxis
from circuits.options.patching import PatchSpec
from tasks.pairs import PairBatch, PairSet

Where = Bool[Tensor, "place batch pos"]
_LETTERS = {"head": "h", "KV head": "kv", "neuron": "n"}


@dataclass(frozen=True)
class SweepGrid:
    """The entries along layer, unit and position; a run patches one entry of each.

    Units are the heads, KV heads or neurons of the site. An axis that is not swept has one entry
    with all that is patched at once.

    swept: indices, in (layer, unit, position), of the axes that are swept.
    from_end: positions are negative and count from the end of each prompt.
    """

    site: Site
    direction: Direction
    swept: tuple[int, ...]
    layers: tuple[tuple[int, ...], ...]
    units: tuple[tuple[int, ...], ...]
    positions: tuple[tuple[int, ...], ...]
    from_end: bool

    @classmethod
    def of(cls, model: HookedModel, pairs: PairSet, spec: PatchSpec) -> SweepGrid:
        """Check a request; `CircuitsError` says what is known instead."""
        if model.layout.n_encoder_layers:
            raise CircuitsError(
                f"{type(model.hf).__name__}: activation patching is for decoder-only models; in "
                "others earlier positions may depend on later ones"
            )
        model.validate(pairs)
        site = site_named(spec.site)
        longest = max(len(pair) for pair in pairs)
        from_end = spec.align == "end"
        axes = ("layer", _kind(site), "position")
        indices_by_axis = (
            _chosen("layer", spec.layers, range(len(model.view.layers))),
            _chosen(
                site.unit or "unit",
                _units(site, spec),
                range(site.hook_point(model.view.layers[0]).units),
            ),
            _chosen("position", spec.positions, range(-longest, 0) if from_end else range(longest)),
        )
        wanted = spec.sweep or ("layer", axes[1] or "position")
        for axis in wanted:
            if axis not in axes:
                names = ", ".join(name for name in axes if name)
                raise CircuitsError(f"{site.name} cannot be swept by {axis!r}; it can by {names}")
        layers, units, positions = (
            tuple((value,) for value in values) if axis in wanted else (values,)
            for axis, values in zip(axes, indices_by_axis, strict=True)
        )
        swept = tuple(index for index, axis in enumerate(axes) if axis in wanted)
        return cls(site, spec.direction, swept, layers, units, positions, from_end)

    @property
    def shape(self) -> torch.Size:
        """Number of entries along layer, unit and position."""
        return torch.Size([len(self.layers), len(self.units), len(self.positions)])

    @property
    def spec(self) -> PatchSpec:
        """What is patched, with nothing left to a default."""
        kind = _kind(self.site)
        axes: tuple[SweepAxis | None, ...] = ("layer", kind, "position")
        units = tuple(unit for entry in self.units for unit in entry)
        return PatchSpec(
            site=self.site.name,
            direction=self.direction,
            sweep=tuple(axis for index in self.swept if (axis := axes[index]) is not None),
            layers=tuple(layer for entry in self.layers for layer in entry),
            positions=tuple(position for entry in self.positions for position in entry),
            heads=units if kind == "head" else None,
            neurons=units if kind == "neuron" else None,
            align="end" if self.from_end else "start",
        )

    def axis(self, index: int, model: HookedModel, pairs: PairSet) -> Axis:
        """A swept axis with its labels."""
        values = tuple(entry[0] for entry in (self.layers, self.units, self.positions)[index])
        if index == 0:
            return Axis("layer", values, tuple(f"layer {value}" for value in values))
        if index == 1:
            unit = self.site.unit or "unit"
            return Axis(unit, values, tuple(f"{_LETTERS[unit]}{value}" for value in values))
        return Axis("position", values, position_labels(model, pairs, values))

    def where(self, batch: PairBatch) -> Where:
        """For each entry of positions, the places of each example that it stands for."""
        lengths = batch.mask.sum(dim=1, keepdim=True)
        longest = batch.mask.shape[1]
        columns = torch.arange(longest, device=lengths.device)
        counted = columns - lengths if self.from_end else columns.expand(len(lengths), -1)
        named = torch.zeros(len(self.positions), 2 * longest, dtype=torch.bool)  # -longest first
        for entry, entry_positions in zip(named, self.positions, strict=True):
            entry[[p + longest for p in entry_positions if -longest <= p < longest]] = True
        return named.to(lengths.device)[:, counted + longest] & batch.mask

    def units_of(self, width: int) -> Bool[Tensor, "entry unit"]:
        """For each entry of units, which of so many it stands for."""
        units = torch.zeros(len(self.units), width, dtype=torch.bool)
        for entry, indices in zip(units, self.units, strict=True):
            entry[list(indices)] = True
        return units


def _kind(site: Site) -> Literal["head", "neuron"] | None:
    """What a sweep calls a site's units; None where it is a whole vector."""
    if site.unit is None:
        return None
    return "neuron" if site.unit == "neuron" else "head"


def _units(site: Site, spec: PatchSpec) -> tuple[int, ...] | None:
    """The heads or neurons that are asked for; those that the site does not have are refused."""
    units_by_kind = {"head": spec.heads, "neuron": spec.neurons}
    kind = _kind(site)
    for name, units in units_by_kind.items():
        if units is not None and name != kind:
            has = "whole vectors" if kind is None else f"{kind}s"
            raise CircuitsError(f"{site.name} has no {name}s to choose from: it has {has}")
    return None if kind is None else units_by_kind[kind]


def _chosen(what: str, wanted: Sequence[int] | None, valid: range) -> tuple[int, ...]:
    if wanted is None:
        return tuple(valid)
    for index in wanted:
        if index not in valid:
            raise CircuitsError(
                f"no {what} {index}: {what}s go from {valid.start} to {valid.stop - 1} here"
            )
    if not wanted:
        raise CircuitsError(f"no {what} was chosen; leave them out to have all")
    return tuple(dict.fromkeys(wanted))
