"""The devices that a job is planned for, from text, and how fast such devices are by guess."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from circuits.errors import CircuitsError
from circuits.planning.device import Rates, available_memory, parse_bytes, resident_bytes

_CONTEXT = 500_000_000  # bytes that CUDA takes for itself; by guess, as all of this file
_TEXT = re.compile(r"(?P<each>.*?[^\sx*])\s*(?:[x*]\s*(?P<count>\S+))?", re.IGNORECASE)
_LIKE = "write 24GB, 24GB x 2, or cpu"


@dataclass(frozen=True)
class Devices:
    """Devices of one kind.

    count: how many. bytes_each: memory of each. kind: "cpu" or "cuda". overhead: bytes of
    it that are taken on each before a model is loaded.
    """

    count: int
    bytes_each: int
    kind: str = "cuda"
    overhead: int = 0

    @classmethod
    def parse(cls, text: str) -> Devices:
        """Devices as a command line names them.

        Args:
            text: "24GB x 2", "24GBx2", "80GB", or "cpu" for this machine's.

        Returns:
            GPUs of that memory, or the CPU with what it has left.

        Raises:
            CircuitsError: for other text.
        """
        if text.strip().lower() == "cpu":
            resident = resident_bytes()
            return cls(1, available_memory(torch.device("cpu")) + resident, "cpu", resident)
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise CircuitsError(f"devices {text!r}: {_LIKE}")
        each, count = match["each"], match["count"] or "1"
        if each.lower() == "cpu":
            raise CircuitsError(f"devices {text!r}: there is one CPU; {_LIKE}")
        if not count.isdecimal() or int(count) == 0:
            raise CircuitsError(f"devices {text!r}: {count!r} is no number of devices; {_LIKE}")
        try:
            size = parse_bytes(each)
        except CircuitsError as error:
            raise CircuitsError(f"devices {text!r}: {error}, {_LIKE}") from error
        return cls(int(count), size, "cuda", _CONTEXT)


def guessed_rates(dtype: torch.dtype) -> Rates:
    """Rates of a card that is not here: about those of one with 24 GB of 2020 to 2022.

    Args:
        dtype: what the model computes in.

    Returns:
        Half of what such cards are sold with, and ten microseconds an operation.
    """
    products = 6e13 if dtype.itemsize == 2 else 1.5e13 if dtype.itemsize == 4 else 3e11
    return Rates(products, products / 2, 4e11, 1e-5)
