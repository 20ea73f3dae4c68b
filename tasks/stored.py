"""Training examples on disk, for samples that are larger than memory."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from tasks.pairs import TrainingExample
from tasks.skipping import Skipped


class StoredExamples(Sequence[TrainingExample]):
    """Examples in a file without a name, which goes with the object or its process; read one by one
    when asked for. In memory are three numbers for each.

    skipped: rows that were left out.
    """

    def __init__(self, examples: Iterable[TrainingExample]) -> None:
        self.skipped: tuple[Skipped, ...] = ()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the object
        weakref.finalize(self, self._file.close)
        self._ends, self._prompts, self._targets = array("q", [0]), array("l"), array("l")
        for example in examples:
            ids = array("i", (*example.prompt, *example.target))
            n_bytes = self._file.write(ids.tobytes() + example.source.encode())
            self._ends.append(self._ends[-1] + n_bytes)
            self._prompts.append(len(example.prompt))
            self._targets.append(len(example.target))

    def __reduce__(self) -> tuple[type[StoredExamples], tuple[list[TrainingExample]]]:
        return StoredExamples, (list(self),)

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[TrainingExample]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> TrainingExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrainingExample]: ...
    def __getitem__(self, index: int | slice) -> TrainingExample | list[TrainingExample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        start, end = self._ends[position], self._ends[position + 1]
        self._file.seek(start)
        record = self._file.read(end - start)
        prompt, target = self._prompts[position], self._targets[position]
        ids = array("i")
        width = ids.itemsize * (prompt + target)
        ids.frombytes(record[:width])
        return TrainingExample(tuple(ids[:prompt]), tuple(ids[prompt:]), record[width:].decode())
