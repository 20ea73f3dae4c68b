"""A run folder, read back: every part that `circuits run` wrote there, as the object it was."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from circuits.comparison import CrossEvaluation, Evolution
from circuits.errors import CircuitsError
from circuits.evaluation import Evaluation
from circuits.graph import Circuit, EdgeScores
from circuits.intervention.patching import Patching
from circuits.model_diff import ModelDiffs
from circuits.model_diff.restored import Restoration
from circuits.runs.records import Environment, ExampleFile
from circuits.runtime.result_file import ResultFile
from circuits.tuning.adapter_circuits import AdapterCircuits
from circuits.tuning.lora_result import LoraComparison
from circuits.tuning.training_log import TrainingLog

R = TypeVar("R", bound=ResultFile)


class MissingResultError(CircuitsError):
    """A run folder does not hold the part that is asked for; the message is the reason."""


class RunFolder:
    """The files of a run folder, each read once, when first asked for.

    Raises MissingResultError where a part is asked for that the folder does not hold, and
    CircuitsError where its file is broken or of another schema version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise CircuitsError(f"{self.folder}: no such run folder; make one with `circuits run`")

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @cached_property
    def evaluation(self) -> Evaluation:
        """How far the circuit of each checkpoint holds: evaluation.json."""
        return self._load(Evaluation, "evaluation.json")

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Checkpoints, first to last, as the evaluation lists them; else by their score files."""
        try:
            return self.evaluation.order
        except MissingResultError:
            names = [path.stem for path in (self.folder / "scores").glob("*.safetensors")]
            return tuple(sorted(names, key=_natural))

    @property
    def first_last(self) -> tuple[str, str]:
        """The first and the last checkpoint that were evaluated."""
        order = self.evaluation.order
        return order[0], order[-1]

    @cached_property
    def scores(self) -> dict[str, EdgeScores]:
        """Edge scores by checkpoint, in order, as far as they are there."""
        scores = {
            name: EdgeScores.load(path)
            for name in self.order
            if (path := self.folder / "scores" / f"{name}.safetensors").is_file()
        }
        if not scores:
            raise MissingResultError("There are no score files under scores/.")
        return scores

    @cached_property
    def circuits(self) -> dict[str, Circuit]:
        """Circuits by checkpoint, in order, as far as they are there."""
        circuits = {
            name: Circuit.load(path)
            for name in self.order
            if (path := self.folder / "circuits" / f"{name}.json").is_file()
        }
        if not circuits:
            raise MissingResultError("There are no circuits under circuits/.")
        return circuits

    @cached_property
    def comparison(self) -> Evolution:
        """What changed between the scores of the checkpoints."""
        return self._load(Evolution, "comparison.json")

    @cached_property
    def cross_evaluation(self) -> CrossEvaluation:
        """Every checkpoint's circuit in every checkpoint."""
        return self._load(CrossEvaluation, "cross_evaluation.json")

    @cached_property
    def training_log(self) -> TrainingLog:
        """The log of the fine-tuning that made the checkpoints."""
        logs = (self.folder / "checkpoints").rglob("training_log.json")
        nearest = min(logs, key=lambda path: (len(path.parts), path), default=None)
        if nearest is None:
            raise MissingResultError("There is no training_log.json under checkpoints/.")
        return self._load(TrainingLog, str(nearest.relative_to(self.folder)))

    @cached_property
    def patching(self) -> Patching:
        """Exact activation patching of the last checkpoint."""
        return self._load(Patching, "patching.json")

    @cached_property
    def lora(self) -> LoraComparison:
        """LoRAs on different layers, compared."""
        return self._load(LoraComparison, "lora.json")

    @cached_property
    def lora_circuits(self) -> AdapterCircuits:
        """LoRAs' circuits and attention beside the last checkpoint's."""
        return self._load(AdapterCircuits, "lora_circuits.json")

    @cached_property
    def lora_cross_evaluation(self) -> CrossEvaluation:
        """The circuits of base, LoRAs and last checkpoint in each of these models."""
        return self._load(CrossEvaluation, "lora_cross_evaluation.json")

    @cached_property
    def model_diff(self) -> ModelDiffs:
        """How the last checkpoint differs inside from the base, and the hidden states of all."""
        return self._load(ModelDiffs, "model_diff.json")

    @cached_property
    def restoration(self) -> Restoration:
        """What is left of fine-tuning where neurons do as the base's do."""
        return self._load(Restoration, "restoration.json")

    @cached_property
    def recipe(self) -> str:
        """The recipe as it was resolved, as text."""
        path = self.folder / "recipe.yaml"
        if not path.is_file():
            raise MissingResultError("recipe.yaml is not in the run folder.")
        return path.read_text(encoding="utf-8")

    @cached_property
    def example(self) -> ExampleFile:
        """One prompt pair of the evaluation set as text."""
        return self._load(ExampleFile, "pairs/example.json")

    @cached_property
    def environment(self) -> Environment:
        """Machine and versions, and how long each stage took."""
        return self._load(Environment, "environment.json")

    def _load(self, kind: type[R], name: str) -> R:
        """A result file of the folder as its object."""
        path = self.folder / name
        if not path.is_file():
            raise MissingResultError(f"{name} is not in the run folder.")
        return kind.load(path)


def open_run(folder: str | Path) -> RunFolder:
    """A run folder whose results are read back when they are first asked for.

    Args:
        folder: what `circuits run --out` wrote.

    Returns:
        The run; `run.evaluation`, `run.scores` and the other parts are the objects that were saved.

    Raises:
        CircuitsError: where there is no such folder.
    """
    return RunFolder(folder)


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key with step-9 before step-10 and `base` first."""
    parts = re.split(r"(\d+)", name)
    return [(-1, "")] * (name == "base") + [
        (int(part), "") if part.isdigit() else (0, part) for part in parts
    ]
