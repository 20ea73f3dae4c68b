"""Two models that are run on the same batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from circuits.models import HookedModel
from circuits.models.recipe import CheckedRecipe


@dataclass(frozen=True)
class BothModels:
    """A model and what it is compared with; batches are where both can read them."""

    model: HookedModel
    base: HookedModel

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def longrope_window(self) -> int | None:
        """Of the model."""
        return self.model.longrope_window

    @property
    def fingerprint(self) -> str:
        """Of both."""
        return f"{self.model.fingerprint} {self.base.fingerprint}"

    def recipe(self) -> CheckedRecipe[BothModels]:
        """How another process comes by both."""
        name = f"{self.base.name} and {self.model.name}"
        return CheckedRecipe(name, self.fingerprint, _Both(self.model.recipe(), self.base.recipe()))


@dataclass(frozen=True)
class _Both:
    model: CheckedRecipe[HookedModel]
    base: CheckedRecipe[HookedModel]

    def __call__(self, device: str) -> BothModels:
        return BothModels(self.model(device), self.base(device))
