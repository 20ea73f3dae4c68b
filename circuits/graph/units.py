"""Units of sources: the places of a vector that holds one number, or one bit, for each.

A node may be taken whole, as one unit, or apart: a head into the dimensions of its z (what its
output matrix reads), an MLP into its hidden neurons. Units are named as their node, `m3`, or
`m3[17]` where it has several.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from jaxtyping import Bool
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.layout import Layout
from circuits.options.choices import Level

_UNIT = re.compile(r"(?P<source>[^\[\]]+)(?:\[(?P<unit>\d+)\])?")


@dataclass(frozen=True)
class Units:
    """The units of a model's sources, side by side, sources in the layout's order.

    widths: how many each source has; all 1 where nodes are taken whole.
    """

    layout: Layout
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.layout.sources) or min(self.widths) < 1:
            raise CircuitsError(
                f"{len(self.widths)} widths for a model of {len(self.layout.sources)} sources; "
                "each source needs one, at least 1"
            )

    @classmethod
    def of_nodes(cls, layout: Layout) -> Units:
        """Every node one unit.

        Args:
            layout: of the model.

        Returns:
            As many units as there are sources.
        """
        return cls(layout, (1,) * len(layout.sources))

    def __len__(self) -> int:
        return sum(self.widths)

    @property
    def level(self) -> Level:
        """What a unit is: "node" or "neuron"."""
        return "node" if max(self.widths) == 1 else "neuron"

    def of(self, row: int) -> slice:
        """Where the units of a source stand.

        Args:
            row: of the source in the layout.

        Returns:
            Their indices.
        """
        return slice(self._ends[row] - self.widths[row], self._ends[row])

    def name(self, index: int) -> str:
        """The name of a unit.

        Args:
            index: of the unit.

        Returns:
            As in "m3", or "m3[17]" where the source has several.
        """
        row = bisect_right(self._ends, index)
        source, start = self.layout.sources[row], self.of(row).start
        return source if self.widths[row] == 1 else f"{source}[{index - start}]"

    def parts(
        self, scored: Iterable[tuple[int, float | None]]
    ) -> Iterator[tuple[str, str, int, float | None]]:
        """Those of some units that are a part of a node only.

        Args:
            scored: indices of units, each with its score.

        Yields:
            Name, node, number within the node, and score.
        """
        for index, score in scored:
            row = bisect_right(self._ends, index)
            if self.widths[row] > 1:
                unit = index - self.of(row).start
                yield self.name(index), self.layout.sources[row], unit, score

    def find(self, name: str) -> slice:
        """Where a source's units, or one of them, stand.

        Args:
            name: "m3" for all units of a source, "m3[17]" for one.

        Returns:
            Their indices.

        Raises:
            CircuitsError: where the model has no such source, or the source no such unit.
        """
        match = _UNIT.fullmatch(name)
        if match is None or match["source"] not in self.layout.sources:
            raise CircuitsError(
                f"{name!r}: no such source in this model ({self.layout.summary}); write m3, a0.h2, "
                "or m3[17] for one of its units"
            )
        row = self.layout.sources.index(match["source"])
        units = self.of(row)
        if match["unit"] is None:
            return units
        if int(match["unit"]) >= self.widths[row]:
            raise CircuitsError(f"{name!r}: {match['source']} has {self.widths[row]} units")
        index = units.start + int(match["unit"])
        return slice(index, index + 1)

    @cached_property
    def roots(self) -> Bool[Tensor, " unit"]:
        """True for what enters the model (`input`, and `bias` where there is): no component."""
        mask = torch.zeros(len(self), dtype=torch.bool)
        for row in self.layout.roots:
            mask[self.of(row)] = True
        return mask

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        return tuple(accumulate(self.widths))
