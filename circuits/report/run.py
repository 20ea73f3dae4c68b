"""Reading a run folder. What is not there is `AbsentError`, which a section turns into a line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from circuits.errors import CircuitsError
from circuits.files import read_json
from circuits.graph import Circuit, EdgeScores
from circuits.report.words import ARTICLES, PROMPTS, Words


class AbsentError(Exception):
    """Something that the report would show is not in the run folder; the message is the reason."""


UNSHOWABLE = (
    AbsentError,
    CircuitsError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
)
"""What reading a file that is missing, broken or of another shape may raise."""


def reason(error: Exception) -> str:
    """Why something cannot be shown, in a line."""
    if isinstance(error, AbsentError | CircuitsError):
        return str(error)
    what = f"{type(error).__name__}: {error}"
    return f"This part could not be made; a file of the run is not as expected ({what})."


class Run:
    """The files of a run folder, each read once, when first asked for."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise CircuitsError(f"{self.folder}: no such run folder; make one with `circuits run`")
        self._read: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder."""
        if name not in self._read:
            if not (self.folder / name).is_file():
                raise AbsentError(f"{name} is not in the run folder.")
            self._read[name] = read_json(self.folder / name)
        found = self._read[name]
        if not isinstance(found, dict) or not found:
            raise AbsentError(f"{name} holds nothing.")
        return found

    def part(self, name: str, *keys: str) -> Any:
        """What stands at a path of keys in a JSON file."""
        found: Any = self.json(name)
        for depth, key in enumerate(keys, start=1):
            if not isinstance(found, dict) or found.get(key) in (None, {}, []):
                raise AbsentError(f"{name} has no “{' / '.join(keys[:depth])}”.")
            found = found[key]
        return found

    def unasked(self, question: str) -> AbsentError:
        """Why the evaluation does not answer a question."""
        by_recipe = (self.folder / "recipe.yaml").is_file()
        how = "the recipe leaves it out" if by_recipe else f"it was made without --{question}"
        return AbsentError(f"evaluation.json holds no {question}: {how}.")

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Checkpoints, first to last, as the evaluation lists them; else by their score files."""
        try:
            return tuple(self.part("evaluation.json", "order"))
        except AbsentError:
            names = [path.stem for path in (self.folder / "scores").glob("*.safetensors")]
            return tuple(sorted(names, key=_natural))

    @cached_property
    def words(self) -> Words:
        """What to call examples: articles only if the one laid open has sentences that say so."""
        try:
            self.part("pairs/example.json", "sentences")
        except UNSHOWABLE:
            return PROMPTS
        return ARTICLES

    @cached_property
    def unasked_sections(self) -> frozenset[str]:
        """Anchors of sections that a recipe leaves out; the page says nothing of them."""
        unasked = set() if (self.folder / "patching.json").is_file() else {"patching"}
        try:
            recipe = yaml.safe_load(self.recipe)
            if recipe.get("patching"):
                unasked.clear()
            if recipe["finetune"] is None and recipe["checkpoints"] is None:
                unasked |= {"fine-tuning", "evolution", "lora"}
        except (*UNSHOWABLE, yaml.YAMLError):
            pass  # no recipe, or one that does not say
        return frozenset(unasked)

    @property
    def ends(self) -> tuple[str, str]:
        """The first and the last checkpoint that were evaluated."""
        order = self.part("evaluation.json", "order")
        return str(order[0]), str(order[-1])

    @cached_property
    def checkpoints(self) -> dict[str, dict[str, Any]]:
        """The evaluation of each checkpoint, in order."""
        found = self.part("evaluation.json", "checkpoints")
        return {name: found[name] for name in self.order if name in found}

    @cached_property
    def scores(self) -> dict[str, EdgeScores]:
        """Edge scores by checkpoint, in order, as far as they are there."""
        found = {
            name: EdgeScores.load(path)
            for name in self.order
            if (path := self.folder / "scores" / f"{name}.safetensors").is_file()
        }
        if not found:
            raise AbsentError("There are no score files under scores/.")
        return found

    @cached_property
    def circuits(self) -> dict[str, Circuit]:
        """Circuits by checkpoint, in order, as far as they are there."""
        found = {
            name: Circuit.load(path)
            for name in self.order
            if (path := self.folder / "circuits" / f"{name}.json").is_file()
        }
        if not found:
            raise AbsentError("There are no circuits under circuits/.")
        return found

    @cached_property
    def training_log(self) -> dict[str, Any]:
        """The log of the fine-tuning that made the checkpoints."""
        logs = (self.folder / "checkpoints").rglob("training_log.json")
        nearest = min(logs, key=lambda path: (len(path.parts), path), default=None)
        if nearest is None:
            raise AbsentError("There is no training_log.json under checkpoints/.")
        return self.json(str(nearest.relative_to(self.folder)))

    @cached_property
    def recipe(self) -> str:
        """The recipe as it was resolved, as text."""
        path = self.folder / "recipe.yaml"
        if not path.is_file():
            raise AbsentError("recipe.yaml is not in the run folder.")
        return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Pair:
    """How many prompt pairs of which split were used for something."""

    n: int
    split: str

    @classmethod
    def of(cls, run: Run, use: str) -> Pair | None:
        """The pairs used to `score` or for `evaluation`, if the run says so."""
        try:
            found = run.part("evaluation.json", "pairs", use)
        except AbsentError:
            return None
        return cls(int(found["n"]), str(found.get("split", "")))


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key with step-9 before step-10 and `base` first."""
    parts = re.split(r"(\d+)", name)
    return [(-1, "")] * (name == "base") + [
        (int(part), "") if part.isdigit() else (0, part) for part in parts
    ]
