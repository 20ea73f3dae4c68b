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
from secrets import token_hex

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.runtime import mapped
from circuits.runtime.files import atomic_path
from circuits.runtime.shared_rows import SharedRows, word_beside, write_row

_LOOKS = 16  # batches that others wrote, until their disk is believed to be this one


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
        self._word: str | None = None
        self._looks = _LOOKS

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

    def put(self, indices: Int[Tensor, " batch"], rows: Float[Tensor, "batch ..."]) -> None:
        """Write the rows of some examples.

        Args:
            indices: of the examples.
            rows: theirs, on the CPU.

        Raises:
            CircuitsError: where the disk takes no more.
        """
        self._begin()
        for index, row in zip(indices.tolist(), rows, strict=True):
            self.checks[index] = write_row(self._handle, self.path, index, row)

    def shared(self) -> SharedRows:
        """The file for other processes to write rows to; `take_in` takes them in.

        Returns:
            What they are to be told.

        Raises:
            CircuitsError: where the file cannot be made.
        """
        self._word = self._word or token_hex(16)
        self._begin()
        return SharedRows(self.path.absolute(), self._word)

    def take_in(self, indices: Int[Tensor, " batch"], checks: Int[Tensor, " batch"]) -> None:
        """Take in rows that another process wrote. Of the first ones it is looked whether they are
        there: a disk may show a file on two machines, and not what the other one writes to it.

        Args:
            indices: of the examples.
            checks: what `SharedRows.put` gave.

        Raises:
            CircuitsError: where a row is not as it was written.
        """
        self.checks[indices] = checks
        if self._looks:
            self._looks -= 1
            size = self._bytes
            for index, check in zip(indices.tolist(), checks.tolist(), strict=True):
                if zlib.crc32(os.pread(self._handle, size, index * size)) != check:
                    raise CircuitsError(
                        f"{self.path}: what a worker wrote to it does not show here; write to a "
                        "disk that all workers share, or leave single examples out "
                        "(--no-per-example)"
                    )

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
        word_beside(self.path).unlink(missing_ok=True)  # nobody else writes from here on
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        if remove:
            self.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        if self._handle >= 0:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._leave_word()
            if not self._new:
                self._handle = os.open(self.path, os.O_RDWR)
                return
            # Another file, not the old one emptied: a worker of earlier work may hold that.
            self.path.unlink(missing_ok=True)
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            os.ftruncate(self._handle, len(self.checks) * self._bytes)  # room comes as rows do
        except OSError as error:
            raise CircuitsError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _leave_word(self) -> None:
        beside = word_beside(self.path)
        beside.unlink(missing_ok=True)
        if self._word is not None:
            with atomic_path(beside) as temporary:
                temporary.write_text(self._word, encoding="ascii")

    def _require(self, done: Bool[Tensor, " example"]) -> None:
        if not self.path.exists():
            raise CircuitsError(
                f"{self.path}: it is missing, and holds the examples that are done; remove "
                f"{self.path.with_suffix('').name} too, to start over"
            )
        size, expected = self.path.stat().st_size, len(self.checks) * self._bytes
        if size != expected:
            raise self._damaged(f"{size} bytes, where {expected} were written")
        with self.path.open("rb") as file:
            for index in done.nonzero().flatten().tolist():
                file.seek(index * self._bytes)
                if zlib.crc32(file.read(self._bytes)) != int(self.checks[index]):
                    raise self._damaged(f"example {index + 1} is not as it was written")

    def _damaged(self, how: str) -> CircuitsError:
        return CircuitsError(
            f"{self.path}: damaged ({how}); remove it and {self.path.with_suffix('').name} to "
            "start over"
        )


def room(path: Path) -> int:
    """Bytes free on the disk of a file that is there or is to be; its own count as free.

    Args:
        path: the file.

    Returns:
        How many.
    """
    ancestor = path.absolute()
    taken = ancestor.stat().st_blocks * 512 if ancestor.exists() else 0
    while not ancestor.exists():
        ancestor = ancestor.parent
    return shutil.disk_usage(ancestor).free + taken
