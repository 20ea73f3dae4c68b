"""Scores of nodes and of neurons, and the two files that hold them.

Score of a node = (clean - corrupted) output . gradient of the metric at that output, by all paths
from it: the first-order estimate of how much the metric falls when the whole node is corrupted.
Positive: it supports the behaviour. Units are the metric's. A node's units are the dimensions of a
head's z (what its output matrix reads) and the hidden neurons of an MLP; their scores add up to the
node's. The score of a set is the mean over its examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.layout import Layout
from circuits.graph.score_files import read_scores, write_scores

_UNIT = re.compile(r"(?P<source>[^\[\]]+)(?:\[(?P<unit>\d+)\])?")


@dataclass(frozen=True)
class NodeScores:
    """One score for each unit of each source, sources in the layout's order.

    values: float32, units of a source side by side.
    widths: how many units each source has; all 1 when nodes were scored as wholes.
    per_example: the same for each example, in the order of the pair set, when kept.
    method, details: as in `EdgeScores`.
    """

    values: Float[Tensor, " unit"]
    layout: Layout
    widths: tuple[int, ...]
    method: str
    details: dict[str, Any] = field(default_factory=dict)
    per_example: Float[Tensor, "example unit"] | None = None

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.layout.sources) or min(self.widths) < 1:
            raise CircuitsError(
                f"{len(self.widths)} widths for a model of {len(self.layout.sources)} sources; "
                "each source needs one, at least 1"
            )
        if self.values.shape != (sum(self.widths),):
            raise CircuitsError(
                f"{self.values.numel()} scores for sources of {sum(self.widths)} units together"
            )
        if not torch.isfinite(self.values).all():
            bad = int((~torch.isfinite(self.values)).nonzero()[0])
            raise CircuitsError(f"the score of {self.unit_name(bad)} is not finite")

    def __getitem__(self, name: str) -> float:
        """The score of a source ("m3", its units together) or of a unit ("m3[17]")."""
        match = _UNIT.fullmatch(name)
        if match is None or match["source"] not in self.layout.sources:
            raise CircuitsError(
                f"{name!r}: no such source in this model ({self.layout.summary}); write m3, a0.h2, "
                "or m3[17] for one of its units"
            )
        row = self.layout.sources.index(match["source"])
        units = self.units(row)
        if match["unit"] is None:
            return float(self.values[units].sum())
        if int(match["unit"]) >= self.widths[row]:
            raise CircuitsError(f"{name!r}: {match['source']} has {self.widths[row]} units")
        return float(self.values[units][int(match["unit"])])

    def units(self, row: int) -> slice:
        """Where the units of a source stand."""
        return slice(self._ends[row] - self.widths[row], self._ends[row])

    def unit_name(self, place: int) -> str:
        """The name of the unit at a place; of its source, where that has one unit only."""
        row = next(row for row, end in enumerate(self._ends) if place < end)
        name, start = self.layout.sources[row], self.units(row).start
        return name if self.widths[row] == 1 else f"{name}[{place - start}]"

    @property
    def nodes(self) -> Float[Tensor, " source"]:
        """Scores of whole sources."""
        return torch.stack([part.sum() for part in self.values.split(list(self.widths))])

    def top(self, n: int = 10) -> list[tuple[str, float]]:
        """The n units largest in absolute value, with their scores."""
        order = torch.argsort(self.values.abs(), descending=True, stable=True)[:n]
        return [(self.unit_name(place), float(self.values[place])) for place in order.tolist()]

    def save(self, folder: str | Path, name: str = "node_scores") -> Path:
        """Write `name.safetensors`, then `name.json`; returns the former's path.

        Equal scores give equal bytes.
        """
        path = Path(folder) / f"{name}.safetensors"
        record = {
            "method": self.method,
            "layout": self.layout.to_dict(),
            "sources": list(self.layout.sources),
            "widths": list(self.widths),
            **self.details,
        }
        write_scores(path, self.values, self.per_example, record)
        return path

    @classmethod
    def load(cls, path: str | Path) -> NodeScores:
        """Read what `save` wrote, or a folder with `node_scores.safetensors` in it."""
        path, tensors, record = read_scores(path, "node_scores", "circuits discover --level node")
        try:
            layout = Layout.from_dict(record.pop("layout"))
            known, widths = record.pop("sources"), tuple(record.pop("widths"))
            method = record.pop("method")
        except KeyError as error:
            raise CircuitsError(f"{path}: not a file of node scores ({error})") from error
        if known != list(layout.sources):
            raise CircuitsError(f"{path}: its names do not match its layout ({layout.summary})")
        return cls(tensors["scores"], layout, widths, method, record, tensors.get("per_example"))

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        return tuple(accumulate(self.widths))
