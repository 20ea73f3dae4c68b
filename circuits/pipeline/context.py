"""What every stage of a run works with: recipe, folder, data, and the models under their names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from circuits.graph import Circuit, EdgeScores
from circuits.models import HookedModel, WeightLoading, checkpoint_series
from circuits.options.run import RunOptions
from circuits.pipeline.data import Data
from circuits.pipeline.recipe import Recipe
from circuits.pipeline.store import Store
from circuits.tuning.lora_result import LoraComparison

BASE = "base"
"""The name of the base model among the checkpoints."""


@dataclass
class RunContext:
    """A run under way."""

    recipe: Recipe
    store: Store
    data: Data
    progress: bool

    def options(self, batch_size: int | None = None) -> RunOptions:
        """How a stage runs, with so many pairs at a time."""
        return RunOptions(batch_size, self.recipe.seed, self.progress, self.recipe.engine)

    @cached_property
    def checkpoints(self) -> dict[str, str]:
        """Names and places, the base first; of a run about one model, the base alone."""
        if self.recipe.single:
            return {BASE: self.recipe.model}
        folder = self.recipe.checkpoints or self.store.path("checkpoints")
        return checkpoint_series(self.recipe.model, folder)

    @property
    def sources(self) -> dict[str, str]:
        """Where each checkpoint is, by its name; a folder of the run without the run's own path."""
        prefix = f"{self.store.folder}/"
        return {name: source.removeprefix(prefix) for name, source in self.checkpoints.items()}

    @cached_property
    def adapters(self) -> dict[str, str]:
        """The LoRAs whose circuits are asked for, by name, and where they are, once trained."""
        section = self.recipe.lora
        if section is None or not section.circuits:
            return {}
        comparison = LoraComparison.load(self.store.path("lora.json"))
        seeds = comparison.seeds[: section.circuits]
        return {
            f"{lora_run.condition}-seed-{lora_run.seed}": str(
                self.store.path("lora", lora_run.adapter)
            )
            for lora_run in comparison.runs
            if lora_run.seed in seeds and lora_run.draw == 0
        }

    @property
    def last(self) -> str:
        """The last checkpoint's name."""
        return list(self.checkpoints)[-1]

    def model(self, name: str) -> HookedModel:
        """A checkpoint, or a LoRA of `adapters`, loaded again."""
        return HookedModel.from_pretrained(
            self.checkpoints.get(name) or self.adapters[name],
            tokenizer=self.recipe.tokenizer,
            device=self.recipe.device,
            dtype=self.recipe.dtype,
            weights=WeightLoading.of(self.recipe),
        )

    def scores(self, name: str) -> EdgeScores:
        """A checkpoint's edge scores, once they are made."""
        return EdgeScores.load(self.store.path("scores", f"{name}.safetensors"))

    def circuit(self, name: str) -> Circuit:
        """A checkpoint's circuit, once it is chosen."""
        return Circuit.load(self.store.path("circuits", f"{name}.json"))
