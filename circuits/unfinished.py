"""Work that may be killed: what it has filled so far stands in a file until its result is saved."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Bool, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.files import atomic_path

NAME = "scores.unfinished"
_log = logging.getLogger(__name__)
_EVERY = 30.0  # seconds between two writings, at least
_COST = 20  # times as long as the last one took, at least: 5 % of the time


class Unfinished:
    """The tensors that work on many examples fills, in a file for as long as it is not done.

        with Unfinished(out / NAME) as unfinished:
            attribute(model, pairs, unfinished=unfinished).save(out)

    The file is written every half a minute, and when the block is left by an error or by Ctrl-C.
    Left without one, the block removes it. The same work goes on from it, to the same bytes.

    path: None keeps nothing. replace: begin anew over a file of other work, instead of refusing it.
    """

    def __init__(self, path: str | Path | None = None, *, replace: bool = False) -> None:
        self.path = None if path is None else Path(path)
        self.replace = replace
        self.done: Bool[Tensor, " example"] = torch.zeros(0, dtype=torch.bool)
        self._tensors: dict[str, Tensor] = {}
        self._identity = ""
        self._new, self._due = False, 0.0

    def resume(self, n: int, identity: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Fill the tensors, and `done`, with what the file holds of the same work, if any.

        n: examples. identity: JSON values that decide what the tensors come to hold.
        """
        self.done = torch.zeros(n, dtype=torch.bool)
        self._tensors = {**tensors, "done": self.done}
        self._identity = json.dumps(identity, sort_keys=True)
        if self.path is not None and self.path.exists():
            self._read(self.path)
        self._due = time.monotonic() + _EVERY

    def keep(self, index: Int[Tensor, " batch"]) -> None:
        """Say that the tensors hold all of these examples; the file is written when it is time."""
        self.done[index.cpu()] = True
        self._new = True
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Replace the file by what the tensors hold now."""
        if self.path is None or not self._new:
            return
        began = time.monotonic()
        held = {name: tensor.contiguous() for name, tensor in self._tensors.items()}
        with atomic_path(self.path) as temporary:
            save_file(held, str(temporary), metadata={"work": self._identity})
        self._new = False
        now = time.monotonic()
        self._due = now + max(_EVERY, _COST * (now - began))

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.write()
        elif self.path is not None:
            self.path.unlink(missing_ok=True)

    def _read(self, path: Path) -> None:
        try:
            with safe_open(str(path), framework="pt") as file:
                work = (file.metadata() or {}).get("work", "{}")
                held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CircuitsError(f"{path}: cannot be read ({error}); remove it") from error
        if work != self._identity:
            was, now = json.loads(work), json.loads(self._identity)
            other = ", ".join(sorted(key for key in now if was.get(key) != now[key]))
            if self.replace:
                _log.info("%s: of work with other %s; beginning anew", path, other)
                return
            raise CircuitsError(
                f"{path}: holds unfinished work with other {other or 'settings'}; give the same "
                "settings to go on with it, write to another place, or remove it"
            )
        for name, tensor in self._tensors.items():
            tensor.copy_(held[name])
        _log.info("%s: going on after %d of %d examples", path, self.done.sum(), len(self.done))
