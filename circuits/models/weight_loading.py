"""How a model's weights are kept, and where: what transformers' loader is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from circuits.errors import CircuitsError
from circuits.models.quantised import Kind, require_package

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

DeviceMap = Literal["auto"] | Mapping[str, str]


@dataclass(frozen=True)
class WeightLoading:
    """How weights are kept, and where. Small and picklable: another process loads by it too.

    Attributes:
        quantize: int8 (a byte a weight) or nf4 (4 bits), by bitsandbytes; None keeps the dtype.
    """

    quantize: Kind | None = None

    def __post_init__(self) -> None:
        if self.quantize is not None:
            require_package(self.quantize)

    def arguments(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """For `from_pretrained` of transformers.

        Args:
            device: where the model is to be.
            dtype: what it computes in.

        Returns:
            Keyword arguments; none for a plain model.
        """
        if self.quantize is None:
            return {}
        from transformers import BitsAndBytesConfig

        how = (
            {"load_in_8bit": True}
            if self.quantize == "int8"
            else {"load_in_4bit": True, "bnb_4bit_quant_type": self.quantize}
        )
        config = BitsAndBytesConfig(**how, bnb_4bit_compute_dtype=dtype)
        return {"quantization_config": config, "device_map": {"": device}}

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
