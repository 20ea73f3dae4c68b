"""Rows of single examples that other processes write themselves, where they see the same disk.

Whoever opened the file of rows leaves a word beside it that nobody can guess. Who finds that word
where the file is said to be, has the file before it, on this machine or on another one, and writes
its rows there; who does not, hands its rows back. The word is another one each time the file is
opened, and it is there before the file is: a process that was left over from earlier work finds
another word, or holds a file that has lost its name.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import CircuitsError


@dataclass(frozen=True)
class SharedRows:
    """A file of rows, as another process is told of it.

    Attributes:
        path: the file, from the root of the disks.
        word: what stands beside it.
    """

    path: Path
    word: str

    def put(
        self, indices: Int[Tensor, " batch"], rows: Float[Tensor, "batch ..."]
    ) -> Int[Tensor, " batch"] | None:
        """Write the rows of some examples, and return when they are on the disk.

        Args:
            indices: of the examples.
            rows: theirs, on the CPU.

        Returns:
            CRC-32 of each; None where this process does not see the file, and nothing was written.

        Raises:
            CircuitsError: where the disk takes no more.
        """
        try:
            handle = os.open(self.path, os.O_RDWR)
        except OSError:
            return None
        try:
            if _read(word_beside(self.path)) != self.word:
                return None
            checks = [
                write_row(handle, self.path, index, row)
                for index, row in zip(indices.tolist(), rows, strict=True)
            ]
            os.fsync(handle)
        finally:
            os.close(handle)
        return torch.tensor(checks, dtype=torch.int64)


def word_beside(path: Path) -> Path:
    """Where the word of a file of rows stands."""
    return path.with_name(f"{path.name}.word")


def write_row(handle: int, path: Path, index: int, row: Tensor) -> int:
    """Write one example's row at its index, and give its CRC-32.

    Args:
        handle: of the open file.
        path: of the file, for what is said when the disk takes no more.
        index: of the example.
        row: float32, on the CPU.

    Raises:
        CircuitsError: where the disk takes no more.
    """
    content = row.detach().float().contiguous().numpy().data.cast("B")
    written = 0
    try:
        while written < len(content):
            at = index * len(content) + written
            written += os.pwrite(handle, content[written:], at)
    except OSError as error:
        raise CircuitsError(
            f"{path}: cannot be written ({error.strerror}); make room and start again "
            "to go on, or do not keep single examples (--no-per-example)"
        ) from error
    return zlib.crc32(content)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
