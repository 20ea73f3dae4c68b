"""Results of single examples that go to disk as they come, a row an example, until all are there.

The file holds the rows and nothing else, each at its own place. Which of them count is said by the
file of `PartialResults`, which is written after the rows are on the disk: whenever the process or
the machine dies, a row that counts is whole, and the others are made again. Checksums find what the
disk itself has spoiled.
"""

from __future__ import annotations

import math
import os
import shutil
import zlib
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.runtime import mapped


class ExampleRows:
    """A row of float32 numbers for each of many examples, in a file.

    Attributes:
        path: the file.
        shape: of a row.
        checks: CRC-32 of each row that was written.
    """

    def __init__(self, path: Path, examples: int, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape
        self.checks: Int[Tensor, " example"] = torch.zeros(examples, dtype=torch.int64)
        self._bytes = 4 * math.prod(shape)
        self._handle, self._new = -1, True

    def open(self, done: Bool[Tensor, " example"]) -> None:
        """Go on with a file; where no example is done, one begins with the first row.

        Args:
            done: the examples whose rows count; `checks` holds theirs.

        Raises:
            CircuitsError: where the file is missing, cut short, or a row that counts is damaged.
        """
        self._new = not bool(done.any())
        if not self._new:
            self._require(done)

    def put(self, places: Int[Tensor, " batch"], rows: Float[Tensor, "batch ..."]) -> None:
        """Write the rows of some examples.

        Args:
            places: of the examples.
            rows: theirs, on the CPU.

        Raises:
            CircuitsError: where the disk takes no more.
        """
        if self._handle < 0:
            self._handle = self._begin()
        for place, row in zip(places.tolist(), rows, strict=True):
            content = memoryview(row.detach().float().contiguous().numpy()).cast("B")
            self.checks[place] = zlib.crc32(content)
            written = 0
            try:
                while written < len(content):
                    at = place * self._bytes + written
                    written += os.pwrite(self._handle, content[written:], at)
            except OSError as error:
                raise CircuitsError(
                    f"{self.path}: cannot be written ({error.strerror}); make room and start again "
                    "to go on, or do not keep single examples (--no-per-example)"
                ) from error

    def flush(self) -> None:
        """Return when all that was put is on the disk."""
        if self._handle >= 0:
            os.fsync(self._handle)

    def first(self, examples: int) -> Float[Tensor, "example ..."]:
        """The rows of the first examples, which stay in the file.

        Args:
            examples: how many.

        Returns:
            Their rows; they outlive the file's name.
        """
        return mapped.mapped(self.path, (examples, *self.shape))

    def close(self, *, remove: bool) -> None:
        """Close the file.

        Args:
            remove: whether it is of no more use.
        """
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        if remove:
            self.path.unlink(missing_ok=True)

    def _begin(self) -> int:
        try:
            if not self._new:
                return os.open(self.path, os.O_RDWR)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            os.ftruncate(handle, len(self.checks) * self._bytes)  # takes room only as rows come
        except OSError as error:
            raise CircuitsError(f"{self.path}: cannot be written ({error.strerror})") from error
        return handle

    def _require(self, done: Bool[Tensor, " example"]) -> None:
        if not self.path.exists():
            raise CircuitsError(
                f"{self.path}: it is missing, and holds the examples that are done; remove "
                f"{self.path.with_suffix('').name} too, to begin anew"
            )
        found, whole = self.path.stat().st_size, len(self.checks) * self._bytes
        if found != whole:
            raise self._damaged(f"{found} bytes, where {whole} were written")
        with self.path.open("rb") as file:
            for place in done.nonzero().flatten().tolist():
                file.seek(place * self._bytes)
                if zlib.crc32(file.read(self._bytes)) != int(self.checks[place]):
                    raise self._damaged(f"example {place + 1} is not as it was written")

    def _damaged(self, how: str) -> CircuitsError:
        return CircuitsError(
            f"{self.path}: damaged ({how}); remove it and {self.path.with_suffix('').name} to "
            "begin anew"
        )


def room(path: Path) -> int:
    """Bytes free on the disk of a file that is there or is to be; its own count as free.

    Args:
        path: the file.

    Returns:
        How many.
    """
    place = path.absolute()
    taken = place.stat().st_blocks * 512 if place.exists() else 0
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free + taken
