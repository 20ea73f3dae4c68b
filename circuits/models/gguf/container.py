"""A GGUF file: its metadata, and its tensors as float32.

The header is read here and not by the package `gguf`, whose reader makes an object of each entry of
a vocabulary (seconds for SmolLM2, half a minute for Gemma 3) and takes a truncated file for a short
one. The package knows the quantisations: sizes of blocks, and how they become numbers again.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from circuits.errors import CircuitsError
from circuits.models.gguf.sources import sha256

MAGIC = b"GGUF"
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9

D = TypeVar("D")


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies. shape: the slowest index first, as in torch. kind: its GGML type."""

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True)
class GGUF:
    """A file whose header was read: keys and values, and places of tensors by name."""

    path: Path
    metadata: Mapping[str, object]
    tensors: Mapping[str, Stored]

    @classmethod
    def read(cls, path: str | Path) -> GGUF:
        """Read the header; a CircuitsError says why a file is none, or not whole."""
        path = Path(path)
        package()
        try:
            change = path.stat()
            return _read(path, change.st_mtime_ns, change.st_size)
        except OSError as error:
            raise CircuitsError(f"{path}: cannot be read ({error.strerror})") from error

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor's values, out of its quantisation."""
        gguf, entry = package(), self.tensors[name]
        raw = np.memmap(self.path, np.uint8, "r", entry.start, (entry.size,))
        kind = gguf.GGMLQuantizationType(entry.kind)
        _, size = gguf.GGML_QUANT_SIZES[kind]
        try:
            values = gguf.dequantize(raw.reshape(-1, size * _together(entry.size // size)), kind)
        except NotImplementedError as error:
            raise CircuitsError(
                f"{self.path}: tensor {name} is quantised as {kind.name}, which the installed "
                "package gguf cannot turn into numbers; take another quantisation of the model"
            ) from error
        values = np.asarray(values, np.float32).reshape(entry.shape)
        return values if values.flags.writeable else values.copy()  # not the mapped file itself

    def get(self, key: str, default: object = None) -> object:
        """A value of the model's architecture: `block_count` is `llama.block_count`."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number of the model's architecture; without a default it must be there."""
        value = self.get(key, default)
        if not isinstance(value, int):
            raise CircuitsError(
                f"{self.path}: {self.architecture}.{key} is {value!r}, not a whole number"
            )
        return value

    def number(self, key: str, default: D) -> int | float | D:
        """A number of the model's architecture, or the default where the file has none."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, int | float):
            raise CircuitsError(f"{self.path}: {self.architecture}.{key} is {value!r}, no number")
        return value

    @cached_property
    def architecture(self) -> str:
        """Such as llama, which Mistral's files say too."""
        name = self.metadata.get("general.architecture")
        if not isinstance(name, str):
            raise CircuitsError(f"{self.path}: does not name its architecture; is it a model?")
        return name

    @property
    def quantisation(self) -> str:
        """As the file names it (Q4_K_M), else the type of most of its numbers (Q4_K)."""
        gguf = package()
        try:
            named: str = gguf.LlamaFileType(self.metadata["general.file_type"]).name
            return named.removeprefix("MOSTLY_").removeprefix("ALL_")
        except (KeyError, ValueError):
            numbers: Counter[int] = Counter()
            for entry in self.tensors.values():
                numbers[entry.kind] += prod(entry.shape)
            return str(gguf.GGMLQuantizationType(numbers.most_common(1)[0][0]).name)

    @property
    def record(self) -> dict[str, str]:
        """What a result must say of the file that its model was read from."""
        return {
            "file": self.path.name,
            "quantisation": self.quantisation,
            "sha256": sha256(self.path),
        }


def _together(blocks: int) -> int:
    """Blocks to a row: blocks know nothing of each other, and the package takes 16 rows at a time,
    which is slow where they are short.
    """
    return next(number for number in (512, 64, 8, 1) if blocks % number == 0)


def package() -> ModuleType:
    """The package `gguf`, which reads the quantisations."""
    try:
        import gguf
    except ImportError as error:
        raise CircuitsError(
            "GGUF files are read with the package gguf, which is not installed; pip install gguf"
        ) from error
    return gguf


@lru_cache(maxsize=2)
def _read(path: Path, changed: int, size: int) -> GGUF:
    """The header, kept: configuration, tokenizer and weights are asked for one after another."""
    del changed
    if not size:
        raise CircuitsError(f"{path}: an empty file")
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return _Header(path, content).read()


class _Header:
    """Reads one value after another; what lies behind the end says that the file is cut."""

    def __init__(self, path: Path, content: mmap) -> None:
        self.path, self.content, self.at = path, content, 0

    def read(self) -> GGUF:
        if self.content[:4] != MAGIC:
            raise CircuitsError(f"{self.path}: not a GGUF file (it does not begin with GGUF)")
        self.at = 4
        version = self.whole("I")
        if version not in (2, 3):
            raise CircuitsError(
                f"{self.path}: GGUF of version {version}, where 2 and 3 are read"
                + (" (big-endian files are not)" if version & 0xFFFF == 0 else "")
            )
        n_tensors, n_keys = self.whole("Q"), self.whole("Q")
        metadata = dict(self.pair() for _ in range(n_keys))
        self.refuse_parts(metadata)
        entries = [self.entry() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise CircuitsError(f"{self.path}: general.alignment is {alignment!r}, no alignment")
        start = -(-self.at // alignment) * alignment
        return GGUF(self.path, metadata, dict(self.placed(entries, start)))

    def pair(self) -> tuple[str, object]:
        return self.text(), self.value(self.whole("I"))

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.text()
        shape = tuple(self.whole("Q") for _ in range(self.whole("I")))
        return name, shape[::-1], self.whole("I"), self.whole("Q")

    def placed(
        self, entries: list[tuple[str, tuple[int, ...], int, int]], start: int
    ) -> Iterator[tuple[str, Stored]]:
        """Each tensor with its bytes, which must lie within the file."""
        gguf = package()
        for name, shape, kind, offset in entries:
            try:
                block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
            except ValueError as error:
                raise CircuitsError(
                    f"{self.path}: tensor {name} is of GGML type {kind}, which the installed "
                    "package gguf does not know; is there a newer one?"
                ) from error
            if not shape or shape[-1] % block:
                raise CircuitsError(
                    f"{self.path}: tensor {name} of shape {list(shape)} is no whole number of "
                    f"blocks of {block}"
                )
            entry = Stored(shape, kind, start + offset, prod(shape) // block * size)
            if entry.start + entry.size > len(self.content):
                raise CircuitsError(
                    f"{self.path}: truncated: tensor {name} ends at byte "
                    f"{entry.start + entry.size:,}, the file at {len(self.content):,}; "
                    "download or copy it again"
                )
            yield name, entry

    def refuse_parts(self, metadata: Mapping[str, object]) -> None:
        parts = metadata.get("split.count", 0)
        if isinstance(parts, int) and parts > 1:
            raise CircuitsError(
                f"{self.path}: one of {parts} parts of a model; join them with llama.cpp's "
                "llama-gguf-split --merge"
            )

    def whole(self, kind: str) -> int:
        (number,) = self.numbers(kind, 1)
        assert isinstance(number, int)
        return number

    def numbers(self, kind: str, count: int) -> tuple[int | float, ...]:
        form = f"<{count}{kind}"
        self.need(struct.calcsize(form) if count < len(self.content) else count)
        numbers = struct.unpack_from(form, self.content, self.at)
        self.at += struct.calcsize(form)
        return numbers

    def text(self) -> str:
        length = self.whole("Q")
        self.need(length)
        raw = self.content[self.at : self.at + length]
        self.at += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CircuitsError(
                f"{self.path}: damaged: text at byte {self.at - length:,} is not UTF-8"
            ) from error

    def value(self, kind: int) -> object:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.whole("I"), self.whole("Q")
            if inner in _SCALARS:
                return list(self.numbers(_SCALARS[inner], count))
            self.need(count)
            return [self.value(inner) for _ in range(count)]
        if kind not in _SCALARS:
            raise CircuitsError(f"{self.path}: damaged: no value is of type {kind} ({self.at:,})")
        return self.numbers(_SCALARS[kind], 1)[0]

    def need(self, size: int) -> None:
        if self.at + size > len(self.content):
            raise CircuitsError(
                f"{self.path}: truncated: it ends at byte {len(self.content):,}, within its "
                "header; download or copy it again"
            )
