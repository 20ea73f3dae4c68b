"""A run folder: what was made, from what, and whether it still stands.

A stage is done when its record names the key it would have now and its files are there. The key is
a hash of the stage's inputs and of the keys of the stages before it, so a change anywhere upstream
makes everything after it again. Records are written last and atomically: a run killed at any moment
goes on with the first stage that is not done.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

from circuits.errors import CircuitsError
from circuits.format import duration
from circuits.models.load_errors import abbreviated
from circuits.pipeline.recipe import Recipe
from circuits.provenance import versions
from circuits.runs.records import Environment
from circuits.runtime.files import LOCK, leftovers, read_json, working_in, write_json, write_text
from circuits.runtime.result_file import Record
from circuits.runtime.resume import Pieces

_log = logging.getLogger(__name__)
_RECIPE = r"recipe\.yaml"


class _Done(Record):
    """What `.stages/` keeps of a stage."""

    key: str
    seconds: float
    result: object


@dataclass
class Store:
    """The folder of one run.

    keys, results, seconds: of the stages done or found done so far.
    """

    folder: Path
    recipe: Recipe
    keys: dict[str, str] = field(default_factory=dict)
    results: dict[str, object] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, folder: str | Path, recipe: Recipe) -> Iterator[Store]:
        """Make the folder, or go on in it, for the length of the block.

        Another recipe's folder is refused, and one that another process works in.
        """
        folder = Path(folder)
        file = folder / "recipe.yaml"
        text = recipe.to_yaml()
        if not file.exists() and (folder.is_file() or _foreign(folder)):
            raise CircuitsError(f"{folder}: exists and is not a run folder; choose another --out")
        with working_in(folder, _RECIPE):
            if not file.exists():
                write_text(file, text)
            elif file.read_text(encoding="utf-8") != text:
                raise CircuitsError(
                    f"{folder}: this run folder was written by another recipe (see {file}): "
                    f"{_changed(file, text)}; choose another --out, or remove the folder"
                )
            yield cls(folder, recipe)

    def path(self, *parts: str) -> Path:
        """A path in the folder."""
        return self.folder.joinpath(*parts)

    def stage(
        self,
        name: str,
        inputs: object,
        work: Callable[[], object],
        *,
        after: Sequence[str] = (),
        files: Sequence[str] = (),
    ) -> object:
        """Do the work of a stage, or give what an earlier run of it returned (plain JSON values).

        inputs: plain values that it depends on. after: stages that it depends on. files: what it
        writes, relative to the folder.
        """
        upstream = {stage: self.keys[stage] for stage in after}
        content = json.dumps([name, inputs, upstream, versions().model_dump()], sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()
        self.keys[name] = key
        record = self.path(".stages", f"{name.replace('/', '-')}.json")
        if record.exists():
            stage_record = _Done.model_validate(read_json(record))
            if stage_record.key == key and all(self.path(file).exists() for file in files):
                self.seconds[name] = stage_record.seconds
                _log.info("%s: done before", name)
                self.results[name] = stage_record.result
                return self.results[name]
        _log.info("%s", name)
        began = time.perf_counter()
        result = work()
        self.seconds[name] = round(time.perf_counter() - began, 2)
        _log.info("%s: done in %s", name, duration(self.seconds[name]))
        write_json(record, {"key": key, "seconds": self.seconds[name], "result": result})
        self.results[name] = result
        return result

    def stage_in_pieces(
        self,
        name: str,
        inputs: object,
        work: Callable[[Pieces], object],
        *,
        after: Sequence[str] = (),
        files: Sequence[str] = (),
    ) -> object:
        """As `stage`, for work that is given where to keep what it has done until it is whole."""

        def whole() -> object:
            so_far = self.path(".stages", f"{name.replace('/', '-')}.partial")
            with Pieces(so_far, replace=True) as resume:
                return work(resume)

        return self.stage(name, inputs, whole, after=after, files=files)

    def write_environment(self, device: str) -> None:
        """Machine, versions, and how long each stage took."""
        Environment(
            versions=versions(),
            python=platform.python_version(),
            platform=platform.platform(),
            threads=torch.get_num_threads(),
            device=device,
            seconds=self.seconds,
        ).save(self.path("environment.json"))


def _changed(file: Path, text: str) -> str:
    """The keys that two recipes differ in, with both values."""
    try:
        was, now = (
            _flat(yaml.safe_load(yaml_text))
            for yaml_text in (file.read_text(encoding="utf-8"), text)
        )
    except yaml.YAMLError:
        return "it cannot be read"
    keys = [key for key in sorted(was | now) if was.get(key) != now.get(key)]
    return abbreviated([f"{key} was {was.get(key)}, now {now.get(key)}" for key in keys])


def _flat(value: object, key_path: str = "") -> dict[str, object]:
    """Values by dotted keys, as `--set` names them."""
    if not isinstance(value, dict):
        return {key_path: value}
    flat: dict[str, object] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{key_path}.{key}" if key_path else str(key))
    return flat


def _foreign(folder: Path) -> bool:
    """Whether a folder without a recipe holds more than a run killed at its first file leaves."""
    own_files = {folder / LOCK, *leftovers(folder, _RECIPE)}
    return folder.is_dir() and any(path not in own_files for path in folder.iterdir())
