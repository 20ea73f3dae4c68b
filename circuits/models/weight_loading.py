"""How a model's weights are kept, and where: what transformers' loader is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from circuits.errors import CircuitsError
from circuits.models.quantised import require_package
from circuits.options.choices import Quantisation
from circuits.options.model import LoadOptions, memory_limits

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

DeviceMap = Literal["auto"] | Mapping[str, str]


@dataclass(frozen=True)
class WeightLoading:
    """How weights are kept, and where. Small and picklable: another process loads by it too.

    Attributes:
        quantize: int8 (a byte a weight) or nf4 (4 bits), by bitsandbytes; None keeps the dtype.
        device_map: "auto" spreads the layers over all devices, by accelerate; or the device of each
            part by its path, all parts named, "cpu" and "disk" among them; None takes one device.
        max_memory: for "auto", what each device may hold: {"0": "20GB", "cpu": "60GB"}.
        offload_folder: where weights on "disk" are kept.
    """

    quantize: Quantisation | None = None
    device_map: DeviceMap | None = None
    max_memory: Mapping[str, str] | None = None
    offload_folder: str | None = None

    def __post_init__(self) -> None:
        if self.max_memory is not None and self.device_map != "auto":
            raise CircuitsError("max_memory says how device_map auto is made; give that too")
        if self.quantize is not None:
            require_package(self.quantize)

    @classmethod
    def of(cls, options: LoadOptions) -> WeightLoading:
        """As a command line or a recipe asks for it.

        Args:
            options: of the model.

        Returns:
            How its weights are loaded.
        """
        limits = None if options.max_memory is None else memory_limits(options.max_memory)
        return cls(options.quantize, options.device_map, limits)

    def arguments(self, device: torch.device, dtype: torch.dtype) -> dict[str, object]:
        """For `from_pretrained` of transformers.

        Args:
            device: where the model is to be.
            dtype: what it computes in.

        Returns:
            Keyword arguments; none for a plain model.
        """
        placed = self._placed()
        if self.quantize is None:
            return placed
        from transformers import BitsAndBytesConfig

        how = (
            {"load_in_8bit": True}
            if self.quantize == "int8"
            else {"load_in_4bit": True, "bnb_4bit_quant_type": self.quantize}
        )
        config = BitsAndBytesConfig(**how, bnb_4bit_compute_dtype=dtype)
        return {"quantization_config": config, "device_map": {"": device}, **placed}

    def _placed(self) -> dict[str, object]:
        if self.device_map is None:
            return {}
        arguments: dict[str, object] = {
            "device_map": self.device_map if self.device_map == "auto" else {**self.device_map},
            "offload_folder": self.offload_folder,
        }
        if self.max_memory is not None:
            arguments["max_memory"] = {
                int(name) if name.isdecimal() else name: size
                for name, size in self.max_memory.items()
            }
        return arguments

    def require_one_place(self, source: object, device: object) -> None:
        """Refuse a device beside a device map, and a map of what is merged on one device.

        Args:
            source: what is loaded.
            device: as asked for.

        Raises:
            CircuitsError: where both are given.
        """
        if self.device_map is not None and device is not None:
            raise CircuitsError(
                f"{source}: device {device} and a device map are given; leave one of them out"
            )

    def require_unquantised(self, source: object, config: PreTrainedConfig) -> None:
        """Refuse to quantise what a checkpoint says is quantised already.

        Args:
            source: of the checkpoint.
            config: its configuration.

        Raises:
            CircuitsError: where it is.
        """
        own = getattr(config, "quantization_config", None)
        if self.quantize is not None and own is not None:
            raise CircuitsError(
                f"{source}: its weights are quantised already; load it without quantize "
                f"{self.quantize}"
            )


PLAIN = WeightLoading()
