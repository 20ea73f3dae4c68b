"""How another process comes by the same model: by its source, or by the model itself, pickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from circuits.errors import CircuitsError
from circuits.models.weight_loading import WeightLoading

if TYPE_CHECKING:
    from circuits.models.hooked import HookedModel


@runtime_checkable
class Fingerprinted(Protocol):
    """A model that can be told from others by its weights."""

    @property
    def fingerprint(self) -> str:
        """Of the weights."""


Known = TypeVar("Known", bound=Fingerprinted)


@dataclass(frozen=True)
class CheckedRecipe(Generic[Known]):
    """A recipe whose model must be the one that it was written for.

    name: of the model. key: its fingerprint. make: loads it on a device.
    """

    name: str
    key: str
    make: Callable[[str], Known]

    def __call__(self, device: str) -> Known:
        """Load the model, and compare its weights' fingerprint."""
        model = self.make(device)
        if model.fingerprint != self.key:
            raise CircuitsError(
                f"{self.name}: other weights are loaded from there than this run began with; have "
                "the same files on every machine, or wrap a model that was changed after loading: "
                "HookedModel(model.hf, model.tokenizer, name)"
            )
        return model


@dataclass(frozen=True)
class FromSource:
    """Arguments of `HookedModel.from_pretrained`, without the device."""

    source: str
    base: str | None
    tokenizer: str | None
    dtype: torch.dtype | str
    weights: WeightLoading

    @classmethod
    def of(
        cls,
        source: str | Path,
        base: str | Path | None,
        tokenizer: str | Path | None,
        dtype: torch.dtype | str,
        weights: WeightLoading,
    ) -> FromSource:
        """Folders and files by their whole paths, as another process may stand elsewhere."""
        return cls(
            _placed(source),
            None if base is None else _placed(base),
            None if tokenizer is None else _placed(tokenizer),
            dtype,
            weights,
        )

    def __call__(self, device: str) -> HookedModel:
        """Load it as it was loaded; one that is spread over devices, over those that are here."""
        from circuits.models.hooked import HookedModel

        return HookedModel.from_pretrained(
            self.source,
            base=self.base,
            tokenizer=self.tokenizer,
            device=device if self.weights.device_map is None else None,
            dtype=self.dtype,
            weights=self.weights,
        )


@dataclass(frozen=True)
class FromMemory:
    """A model that was not loaded from a source: it travels itself."""

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    name: str
    gguf: Mapping[str, str] | None

    def __call__(self, device: str) -> HookedModel:
        """Wrap it again."""
        from circuits.models.hooked import HookedModel

        torch.nn.Module.to(self.hf, device)
        return HookedModel(self.hf, self.tokenizer, self.name, gguf=self.gguf)


def _placed(source: str | Path) -> str:
    return str(Path(source).absolute()) if Path(source).exists() else str(source)
