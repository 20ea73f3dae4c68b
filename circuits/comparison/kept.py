"""A comparison as tensors, so that a `compare` that was killed does not make it again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from circuits.comparison.changes import Changes
from circuits.comparison.variance import PARTS, VarianceDecomposition, VarianceShare
from circuits.statistics.estimate import Estimates

_COLUMNS = ("before", "after", "p", "q")
_BOUNDS = ("value", "low", "high")


def to_tensors(tables: Mapping[str, Changes], variance: VarianceDecomposition) -> dict[str, Tensor]:
    """Every column of every table, and the variance decomposition; nothing is rounded."""
    tensors: dict[str, Tensor] = {}
    for name, table in tables.items():
        # Cloned, since a safetensors file refuses two views of one tensor.
        tensors |= {f"{name}.{column}": getattr(table, column).clone() for column in _COLUMNS}
        tensors |= {f"{name}.change.{end}": getattr(table.change, end).clone() for end in _BOUNDS}
        tensors[f"{name}.n"] = torch.tensor(table.change.n)
    parts = [getattr(variance, part).figures for part in PARTS]
    tensors["variance.parts"] = torch.tensor(parts, dtype=torch.float64)
    scalars = [variance.p, variance.noise_share]
    tensors["variance.whole"] = torch.tensor(scalars, dtype=torch.float64)
    return tensors


def from_tensors(
    names: Mapping[str, tuple[str, ...]], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Changes], VarianceDecomposition]:
    """The tables and the variance decomposition that `to_tensors` was given.

    names: of each table's rows.
    """
    tables = {}
    for name, rows in names.items():
        n = int(tensors[f"{name}.n"])
        before, after, p, q = (tensors[f"{name}.{column}"] for column in _COLUMNS)
        value, low, high = (tensors[f"{name}.change.{end}"] for end in _BOUNDS)
        change = Estimates(value, low, high, n)
        tables[name] = Changes(rows, before, after, change, p, q, len(rows))
    source, reader, interaction = (
        VarianceShare.of(row, n) for row in tensors["variance.parts"].tolist()
    )
    return tables, VarianceDecomposition(
        source, reader, interaction, *tensors["variance.whole"].tolist()
    )
