"""What learning a mask gives, and `mask.json`, which says how it went."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import PlainSerializer

from circuits.graph import AnyCircuit, AnyScores, Provenance
from circuits.graph.provenance import DataRecord
from circuits.intervention import MeanActivations
from circuits.intervention.constant_file import save_constants
from circuits.options.choices import Level
from circuits.options.masks import MaskConfig
from circuits.runtime.result_file import Record, ResultFile

NAME, CONSTANTS = "mask.json", "constants.safetensors"


class WarmStart(Record):
    """The scores that a mask began from: their method, and what they were made on."""

    method: str
    data: DataRecord | None


class MaskRecord(ResultFile):
    """`mask.json`: the course of learning.

    level: what gates are of. start: what they began from.
    losses: mean over each epoch of the loss, in the units of the objective, with the gates drawn.
    sizes: gates open on average at the end of each epoch. wanted: how many were to be.
    config: every setting. provenance: metric, data, model and versions.
    """

    KIND: ClassVar[str] = "learned-mask"

    level: Level
    start: WarmStart
    losses: tuple[float, ...]
    sizes: tuple[float, ...]
    wanted: tuple[float, ...]
    config: Annotated[MaskConfig, PlainSerializer(asdict, when_used="json")]
    provenance: Provenance


@dataclass(frozen=True)
class LearnedMask:
    """A circuit, and what it was learned by.

    scores: the probability that a gate is open, from 0 to 1, by which circuits of other sizes can
        be chosen, and `circuits.faithfulness` makes its curve; they are no share of the metric.
    circuit: of the size that was asked for, of the gates most likely to be open.
    constants: that were learned to stand in for what is left out, for `ablation=` of evaluations;
        None where the ablation is another.
    record: the course of learning.
    """

    scores: AnyScores
    circuit: AnyCircuit
    constants: MeanActivations | None
    record: MaskRecord

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write scores, circuit and course, and constants where there are any.

        Args:
            folder: where to.

        Returns:
            The files.
        """
        folder = Path(folder)
        scores = self.scores.save(folder)
        self.circuit.save(folder / "circuit.json")
        self.record.save(folder / NAME)
        files = (scores, scores.with_suffix(".json"), folder / "circuit.json", folder / NAME)
        if self.constants is None:
            return files
        return (*files, save_constants(self.constants, folder / CONSTANTS))
