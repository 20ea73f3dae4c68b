"""Work that may be killed: what it has filled so far stands in a file until its result is saved."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
from jaxtyping import Bool, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.runtime.example_rows import ExampleRows
from circuits.runtime.files import atomic_path, drop_folder, read_json, write_json

NAME = "scores.partial"
_log = logging.getLogger(__name__)
_EVERY = 30.0  # seconds between two writings, at least
_COST = 20  # times as long as the last one took, at least: 5 % of the time


class PartialResults:
    """The tensors that work on many examples fills, in a file for as long as it is not done.

        with PartialResults(out / NAME) as resume:
            attribute(model, pairs, resume=resume).save(out)

    The file is written every half a minute, and when the block is left by an error or by Ctrl-C.
    Left without one, the block removes it. The same work continues from it, and its result is
    bit-identical. What there is of every example goes to a file of its own beside it (`rows`).

    Attributes:
        path: the file; None keeps nothing.
        replace: start again over a file of other work, instead of refusing it.
        done: which examples the tensors hold.
    """

    def __init__(self, path: str | Path | None = None, *, replace: bool = False) -> None:
        self.path = None if path is None else Path(path)
        self.replace = replace
        self.done: Bool[Tensor, " example"] = torch.zeros(0, dtype=torch.bool)
        self._tensors: dict[str, Tensor] = {}
        self._rows: ExampleRows | None = None
        self._identity = ""
        self._new, self._torn, self._due = False, False, 0.0

    @property
    def rows_path(self) -> Path | None:
        """Where what there is of every example goes; None where nothing is kept."""
        return None if self.path is None else self.path.with_name(f"{self.path.name}.rows")

    def recorded(self, key: str) -> object:
        """What the file says that unfinished work was begun with.

        Args:
            key: of the identity that `restore` was given.

        Returns:
            Its value; None where there is no such work.
        """
        if self.path is None or not self.path.exists():
            return None
        return json.loads(self._read(self.path)[0]).get(key)

    def restore(
        self,
        n: int,
        identity: Mapping[str, object],
        tensors: Mapping[str, Tensor],
        rows: ExampleRows | None = None,
    ) -> None:
        """Fill tensors, and `done`, with what the file holds of the same work, if any.

        Args:
            n: number of examples.
            identity: JSON values that decide what the tensors come to hold.
            tensors: what the work fills, by name; filled in place.
            rows: what it puts a row into for each example, at `rows_path`.

        Raises:
            CircuitsError: where the file is damaged, or holds other work, or less of the same.
        """
        if rows is not None:
            tensors = {**tensors, "checks": rows.checks}
        saved = self.load(n, identity)
        if saved:
            if unkept := sorted(tensors.keys() - saved.keys()):
                raise CircuitsError(
                    f"{self.path}: an earlier version of this package began this work and kept "
                    f"nothing of {', '.join(unkept)}; remove it, or write to another place"
                )
            for name, tensor in tensors.items():
                tensor.copy_(saved[name])
        if rows is not None:
            rows.open(self.done)
            self._rows = rows
        self.hold(tensors)

    def load(self, n: int, identity: Mapping[str, object]) -> dict[str, Tensor]:
        """What the file holds of the same work, for tensors that come with the first batch.

        Args:
            n: number of examples.
            identity: JSON values that decide what the tensors come to hold.

        Returns:
            Tensors by name; none where there is no file. `done` is filled with their examples.

        Raises:
            CircuitsError: where the file is damaged, or holds other work.
        """
        self.done = torch.zeros(n, dtype=torch.bool)
        self._tensors = {"done": self.done}
        self._identity = json.dumps(identity, sort_keys=True)
        tensors = {}
        if self.path is not None and self.path.exists():
            tensors = self._same(self.path)
            if tensors:
                self.done.copy_(tensors.pop("done"))
                _log.info("%s: going on after %d of %d examples", self.path, self.done.sum(), n)
        self._due = time.monotonic() + _EVERY
        return tensors

    def hold(self, tensors: Mapping[str, Tensor]) -> None:
        """Say which tensors are filled.

        Args:
            tensors: by name; they are written as they are when it is time.
        """
        self._tensors = {**tensors, "done": self.done}

    @contextmanager
    def taking(self, index: Tensor) -> Iterator[None]:
        """A block that adds examples to running sums.

        Stopped within it, nothing is written, as the sums hold a part of the examples.

        Args:
            index: the examples' indices; when the block ends, they count as done.

        Yields:
            Nothing.
        """
        self._torn = True
        yield
        self._torn = False
        self.keep(index)

    def keep(self, index: Int[Tensor, " batch"]) -> None:
        """Say that the tensors hold all of these examples; the file is written when it is time.

        Args:
            index: the examples' indices.
        """
        self.done[index.cpu()] = True
        self._new = True
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Replace the file by what the tensors hold now."""
        if self.path is None or not self._new or self._torn:
            return
        began = time.monotonic()
        if self._rows is not None:
            self._rows.flush()
        tensors = {name: tensor.contiguous() for name, tensor in self._tensors.items()}
        with atomic_path(self.path) as temporary:
            save_file(tensors, str(temporary), metadata={"work": self._identity})
        self._new = False
        now = time.monotonic()
        self._due = now + max(_EVERY, _COST * (now - began))

    def __enter__(self) -> PartialResults:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self.write()
            elif self.path is not None:
                self.path.unlink(missing_ok=True)
        finally:
            if self._rows is not None and self.path is not None:
                self._rows.close(remove=not self.path.exists())  # without it, none of them counts

    def _read(self, path: Path) -> tuple[str, dict[str, Tensor]]:
        """The identity of the work in the file, and its tensors."""
        try:
            with safe_open(str(path), framework="pt") as file:
                work = (file.metadata() or {}).get("work", "{}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CircuitsError(f"{path}: cannot be read ({error}); remove it") from error
        return work, tensors

    def _same(self, path: Path) -> dict[str, Tensor]:
        work, tensors = self._read(path)
        if work != self._identity:
            was, now = json.loads(work), json.loads(self._identity)
            other = ", ".join(sorted(key for key in now if was.get(key) != now[key]))
            if self.replace:
                _log.info("%s: of work with other %s; starting over", path, other)
                return {}
            raise CircuitsError(
                f"{path}: holds unfinished work with other {other or 'settings'}; give the same "
                "settings to go on with it, write to another place, or remove it"
            )
        return tensors


class Pieces:
    """Pieces of work, one after the other, kept in a folder for as long as not all are done.

        with Pieces(out / "evaluation.partial") as resume:
            evaluate(..., resume=resume)

    The same work asks for the same pieces in the same order, finds those that are done, and
    continues within the next. Left without an error, the block removes the folder; so does a
    refusal of what was begun in it, as other input is other work.

    Attributes:
        path: the folder; None keeps nothing.
        replace: start again over other work, instead of refusing it.
    """

    def __init__(self, path: str | Path | None = None, *, replace: bool = False) -> None:
        self.path = None if path is None else Path(path)
        self.replace = replace
        targets = [] if self.path is None else [self.path, self.path.parent]
        self._fresh = [target for target in targets if not target.exists()]
        self._last = PartialResults()
        self._count = 0

    def tensors(self) -> PartialResults:
        """The next piece, of tensors that batches fill; the one before it is whole."""
        self._last.write()
        self._last = PartialResults(self._next("safetensors"), replace=self.replace)
        return self._last

    def value(self, identity: Mapping[str, object], work: Callable[[], object]) -> object:
        """The next piece, of JSON values.

        Args:
            identity: JSON values that decide what the work returns.
            work: makes the piece where it is not there yet.

        Returns:
            What `work` returned before, or returns now.

        Raises:
            CircuitsError: where the folder holds other work.
        """
        self._last.write()
        file = self._next("json")
        if file is None:
            return work()
        wanted = json.loads(json.dumps(identity))
        if file.exists():
            record = read_json(file)
            if isinstance(record, dict) and record["work"] == wanted:
                return record["value"]
            if not self.replace:
                raise CircuitsError(
                    f"{file.parent}: holds unfinished work with other settings; give the same to "
                    "go on with it, write to another place, or remove it"
                )
        value = work()
        write_json(file, {"work": wanted, "value": value})
        return value

    def once(
        self, identity: Mapping[str, object], work: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The next piece, of tensors that come in one go.

        Args:
            identity: JSON values that decide what the work returns.
            work: makes the tensors where they are not there yet.

        Returns:
            What `work` returned before, or returns now.

        Raises:
            CircuitsError: where the folder holds other work.
        """
        piece = self.tensors()
        tensors = piece.load(1, identity)
        if not tensors:
            tensors = work()
            piece.hold(tensors)
            piece.keep(torch.zeros(1, dtype=torch.int64))
        return tensors

    def __enter__(self) -> Pieces:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        refused = isinstance(error, CircuitsError)
        if error is not None and not (refused and self.path in self._fresh):
            self._last.write()
        elif self.path is not None and self.path.exists():
            drop_folder(self.path)
            if refused and self.path.parent in self._fresh:
                self.path.parent.rmdir()

    def _next(self, ending: str) -> Path | None:
        self._count += 1
        return None if self.path is None else self.path / f"{self._count:03d}.{ending}"


def digest(*tensors: Tensor | None) -> str:
    """SHA-256 over the shapes, types and bytes of tensors.

    Args:
        *tensors: on any device; None is left out.

    Returns:
        The digest; equal tensors have equal ones.
    """
    hasher = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            hasher.update(json.dumps([list(tensor.shape), str(tensor.dtype)]).encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            hasher.update(flat.view(torch.uint8).numpy().data)
    return hasher.hexdigest()
