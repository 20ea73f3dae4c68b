"""What is said of circuits, as objects: `evaluation.json` is the JSON of an `Evaluation`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NoReturn, TypeVar

from pydantic import Field, model_validator

from circuits.errors import UndefinedMetricError
from circuits.evaluation.backups import Backups
from circuits.evaluation.circuit_tests import CircuitTests
from circuits.evaluation.clusters import Clusters
from circuits.evaluation.completeness import Completeness
from circuits.evaluation.faithfulness import Faithfulness
from circuits.evaluation.minimality import Minimality
from circuits.evaluation.null_model import NullModel
from circuits.evaluation.rivals import Rivals
from circuits.evaluation.robustness import Condition
from circuits.evaluation.stability import Stability
from circuits.evaluation.worst_examples import WorstExamples
from circuits.graph.findings import RankingChoice, Reliability, TaskPerformance
from circuits.graph.provenance import ModelRecord
from circuits.options.choices import Level
from circuits.runtime.display import Plotted
from circuits.runtime.result_file import Record, ResultFile
from circuits.statistics.estimate import Estimate
from tasks.pairs import PairSet

if TYPE_CHECKING:
    import pandas as pd

V = TypeVar("V")

OWN = "evaluate"
"""The condition of the evaluation's own pairs."""


class Undefined(Record):
    """In the place of a result that does not exist.

    undefined_reason: why, as when clean and corrupted metric are equal.
    """

    undefined_reason: str

    def plot(self, **_: object) -> NoReturn:
        """There is no figure.

        Raises:
            UndefinedMetricError: always, with the reason.
        """
        raise UndefinedMetricError(self.undefined_reason)


class CircuitSummary(Record):
    """The circuit that was evaluated.

    level: what it is made of. size: how many edges (nodes, neurons) it has. fraction: of all.
    n_nodes: nodes that they join, `input` and `logits` counted.
    ablation: what stood in for what is left out; "given means" for means taken beforehand.
    faithfulness: f of the circuit; None where it is undefined.
    degenerate_reason: why the circuit can do nothing; None where it can.
    choice: how its ranking was chosen; None where it was named, or the circuit is of other origin.
    """

    level: Level
    size: int
    fraction: float
    n_nodes: int
    ablation: str
    faithfulness: Estimate | None
    degenerate_reason: str | None
    choice: RankingChoice | None


class CircuitEvaluation(Record):
    """All that is said of one circuit. A part that was not asked for is None.

    circuit: what was evaluated.
    faithfulness: curves of the scores that the circuit is from.
    minimality, completeness: None also where the circuit can do nothing.
    robustness: f by condition; "evaluate" are the evaluation's own pairs. Empty where the curve is
        undefined.
    ablations: f by what stands in for what is left out, on the evaluation's own pairs.
    worst: the examples of which the circuit keeps least; None where the curve is undefined.
    tests: of what an ideal circuit is; the same.
    rivals, backups: None also where the circuit can do nothing.
    clusters: None where the scores do not hold enough single examples.
    stability, reliability: None where the scores do not hold single examples, or the circuit was
        not chosen from them.
    """

    circuit: CircuitSummary
    faithfulness: Faithfulness | Undefined
    minimality: Minimality | Undefined | None = None
    completeness: Completeness | Undefined | None = None
    robustness: dict[str, Condition] = Field(default_factory=dict)
    ablations: dict[str, Condition] = Field(default_factory=dict)
    worst: WorstExamples | None = None
    tests: CircuitTests | None = None
    rivals: Rivals | Undefined | None = None
    backups: Backups | Undefined | None = None
    clusters: Clusters | None = None
    stability: Stability | None = None
    reliability: Reliability | None = None

    @property
    def curves(self) -> Faithfulness | None:
        """The faithfulness curves, where they are defined."""
        return None if isinstance(self.faithfulness, Undefined) else self.faithfulness


class CheckpointEvaluation(CircuitEvaluation):
    """The evaluation of one checkpoint's circuit.

    performance: how well the checkpoint does the task; None where that was not measured.
    null_model: what the same scoring finds in a model that learned nothing; None where that was not
        asked.
    """

    performance: TaskPerformance | None = None
    null_model: NullModel | None = None


class SummaryQuality(Record):
    """How good the answers of one checkpoint are, over n held-out examples.

    rouge1, rouge2, rougeL: F1, 0 to 1. exact_match, token_accuracy: shares, 0 to 1.
    loss: in nats a target token, lower is better.
    n_unicode: references whose ROUGE counts words of any script.
    """

    rouge1: Estimate
    rouge2: Estimate
    rougeL: Estimate  # noqa: N815
    exact_match: Estimate
    token_accuracy: Estimate
    loss: Estimate
    n: int
    n_unicode: int = 0


class PairsUsed(Record):
    """A set of prompt pairs: how many of which split, and a hash of them."""

    n: int
    split: str
    fingerprint: str

    @classmethod
    def of(cls, pairs: PairSet) -> PairsUsed:
        """What is recorded of the pairs.

        Args:
            pairs: the prompt pairs.

        Returns:
            Their number, split and fingerprint.
        """
        return cls(n=len(pairs), split=pairs.split, fingerprint=pairs.fingerprint)


class EvaluationProvenance(Record):
    """What an evaluation without a recipe is of.

    task, method, metric, strategy: of the pairs, the scores and the circuit, by name.
    model: the one that was run. scores_of_another_model: the name of the
        model that the scores were made from, where that is another.
    """

    task: str
    method: str
    metric: str | None
    strategy: str | None
    model: ModelRecord
    scores_of_another_model: str | None


class Evaluation(Plotted, ResultFile):
    """How far the circuits of one or more checkpoints hold: `evaluation.json`.

    order: names of the checkpoints, first to last.
    checkpoints: their evaluations, in that order.
    quality: how good their answers are, where that was measured.
    pairs: what pairs were used to `score`, to `evaluate`, and for each further condition.
    provenance: of an evaluation by itself; None in a run, whose recipe says it.
    """

    KIND: ClassVar[str] = "evaluation"
    SCHEMA_VERSION: ClassVar[int] = 2

    order: tuple[str, ...]
    checkpoints: dict[str, CheckpointEvaluation]
    quality: dict[str, SummaryQuality] = Field(default_factory=dict)
    pairs: dict[str, PairsUsed] = Field(default_factory=dict)
    provenance: EvaluationProvenance | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Evaluation:
        """Files keep the keys of a mapping sorted by name."""
        _put_in_order(self.checkpoints, self.order)
        _put_in_order(self.quality, self.order)
        return self

    def _facts(self) -> dict[str, str]:
        return {"checkpoints": ", ".join(self.order)}

    def to_frame(self) -> pd.DataFrame:
        """The checkpoints, a row each.

        Returns:
            Columns checkpoint, level, size, fraction, f, low, high (of the circuit), cpr, cmd; NaN
            where f is undefined.
        """
        import pandas as pd

        rows = []
        for name in self.order:
            evaluation = self.checkpoints[name]
            f = evaluation.circuit.faithfulness or Estimate(math.nan, math.nan, math.nan, 0)
            curves = evaluation.curves
            rows.append(
                {
                    "checkpoint": name,
                    "level": evaluation.circuit.level,
                    "size": evaluation.circuit.size,
                    "fraction": evaluation.circuit.fraction,
                    "f": f.value,
                    "low": f.low,
                    "high": f.high,
                    "cpr": math.nan if curves is None else curves.cpr.value,
                    "cmd": math.nan if curves is None else curves.cmd.value,
                }
            )
        return pd.DataFrame(rows)

    @property
    def last(self) -> CheckpointEvaluation:
        """The evaluation of the last checkpoint."""
        return self.checkpoints[self.order[-1]]


def _put_in_order(by_checkpoint: dict[str, V], order: Sequence[str]) -> None:
    if unknown := by_checkpoint.keys() - {*order}:
        raise ValueError(f"{min(unknown)!r} is not in the order of the checkpoints")
    for name in order:
        if name in by_checkpoint:
            by_checkpoint[name] = by_checkpoint.pop(name)
