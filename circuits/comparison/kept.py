"""What a comparison has found of two checkpoints, as tensors: a killed `compare` finds it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor

from circuits.comparison.changes import Changes
from circuits.comparison.variance import PARTS, VarianceDecomposition, VarianceShare

_COLUMNS = [field.name for field in fields(Changes) if field.name != "names"]


def to_tensors(tables: Mapping[str, Changes], variance: VarianceDecomposition) -> dict[str, Tensor]:
    """Every column of every table, and the split of the variance; nothing is rounded."""
    held = {
        f"{name}.{column}": getattr(table, column).clone()  # a file takes no two views of one
        for name, table in tables.items()
        for column in _COLUMNS
    }
    parts = [[*vars(getattr(variance, part)).values()] for part in PARTS]
    held["variance.parts"] = torch.tensor(parts, dtype=torch.float64)
    whole = [variance.p, variance.noise_share]
    held["variance.whole"] = torch.tensor(whole, dtype=torch.float64)
    return held


def from_tensors(
    names: Mapping[str, tuple[str, ...]], held: Mapping[str, Tensor]
) -> tuple[dict[str, Changes], VarianceDecomposition]:
    """The tables and the split that `to_tensors` was given.

    names: of each table's rows.
    """
    tables = {
        name: Changes(rows, *(held[f"{name}.{column}"] for column in _COLUMNS))
        for name, rows in names.items()
    }
    source, reader, interaction = (VarianceShare(*row) for row in held["variance.parts"].tolist())
    return tables, VarianceDecomposition(
        source, reader, interaction, *held["variance.whole"].tolist()
    )
