"""Where scores and circuits come from: the record that their files carry.

The records are plain; `circuits.provenance` makes those of a model, of pairs and of packages.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from circuits.graph.findings import RankingChoice, Reliability, TaskPerformance
from circuits.options.choices import Ranking, Strategy
from circuits.runtime.result_file import Record
from tasks.pairs import PairSet

Setting = bool | int | float | str | None


class ModelRecord(Record):
    """Which model: its name or folder, class, dtype, and a hash of its weights as loaded.

    quantisation: how the weights are kept, by which version of what ("bitsandbytes 0.50.2 nf4");
    None where they are the numbers that are computed with.
    gguf: the file that the weights were read from. tokenizer: where it is from, if asked for.
    """

    name: str
    architecture: str
    dtype: str
    fingerprint: str
    quantisation: str | None = None
    gguf: Mapping[str, str] | None = None
    tokenizer: str | None = None

    def has_other_weights(self, other: ModelRecord) -> bool:
        """Whether the two are known to differ: hashes can be held against each other in one
        precision only.
        """
        return self.precision == other.precision and self.fingerprint != other.fingerprint

    @property
    def precision(self) -> str:
        """The dtype, and how the weights are quantised if they are."""
        if self.quantisation is None:
            return self.dtype
        return f"{self.quantisation}, computed in {self.dtype}"


class DataRecord(Record):
    """Which prompt pairs: n of a task's split, with a hash over all of them.

    skipped: rows of the data that could not be used.
    """

    task: str
    split: str
    n: int
    fingerprint: str
    skipped: int = 0


class Versions(Record):
    """Versions of the packages that a figure can depend on."""

    circuits: str
    torch: str
    transformers: str
    transformer_lens: str


class TaskRecord(Record):
    """The task as the command line was given it. data: its file. options: key=value."""

    name: str
    data: str | None = None
    options: tuple[str, ...] = ()


class QuadratureError(Record):
    """How far scores that average gradients along a path are from the whole integral.

    estimate: of the relative L1 error of the mean scores. worst: the largest of a single example.
    gradients: taken per example, on average.
    """

    estimate: float
    worst: float
    gradients: float


class ImportRecord(Record):
    """A graph file of another tool that was read, and how (`circuits.graph.interchange`)."""

    file: str
    score_sign: str | None = None
    kv_reduction: str | None = None


class SelectionRecord(Record):
    """How a circuit was chosen from scores.

    size: edges (nodes, neurons) asked for, before pruning; or min_score: the least score.
    positive_ratio: the share taken by signed score, of ranking "mixed".
    joined, missing: edges of negative score that nearly all score stands on: taken, or left out.
    choice: how the ranking was chosen, if it was.
    """

    strategy: Strategy | Literal["threshold"]
    ranking: Ranking
    size: int | None = None
    min_score: float | None = None
    positive_ratio: float | None = None
    pruned: bool = False
    joined: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    choice: RankingChoice | None = None


class MissingBegin(Record):
    """Prompts that lack the token which the texts of the model begin with.

    ids: what a text begins with. token: the same as text; None where no tokenizer has it.
    named_by: who says so. n_lacking: prompts without it, of n.
    offered: the task can put it there (`add_bos`). str() says it all in a line.
    """

    ids: tuple[int, ...]
    token: str | None
    named_by: Literal["tokenizer", "configuration"]
    n_lacking: int
    n: int
    offered: bool

    def __str__(self) -> str:
        name = f"of id {self.ids[0]}" if self.token is None else repr(self.token)
        all_lack_it = self.n_lacking == self.n
        which = "the prompts" if all_lack_it else f"{self.n_lacking} of {self.n} prompts"
        if self.named_by == "tokenizer":
            return (
                f"{which} do not begin with {name}, which the tokenizer puts before a text by "
                "itself; the model may be out of its depth without it (add_bos=auto puts it there)"
            )
        offer = "; if the model was trained behind it, add_bos=true puts it there"
        return (
            f"the model's configuration names the begin token {name}, and neither the tokenizer "
            f"nor {which} put it first{offer if self.offered else ''}"
        )


class Provenance(Record):
    """What scores or a circuit were made from, and how; what is not known is None.

    method: of attribution or search, for circuits; scores name theirs themselves.
    settings: of the method, by name.
    metric: whose units scores have. metric_clean, metric_corrupted: its means over the pairs.
    batch_size: asked for, or chosen by the planner. seed: of every random choice.
    data: the pairs as a set. pairs: a fingerprint of each, in order.
    begin: what prompts lack at their beginning; None where they lack nothing.
    error: of the quadrature. performance: whether the model does the task.
    reliability: how far scores, and a circuit chosen by them, depend on their examples.
    task: to make more pairs with. imported: the file of another tool that they were read from.
    selection: how a circuit was chosen from scores.
    """

    method: str | None = None
    settings: Mapping[str, Setting] = Field(default_factory=dict)
    metric: str | None = None
    metric_clean: float | None = None
    metric_corrupted: float | None = None
    batch_size: int | None = None
    seed: int | None = None
    data: DataRecord | None = None
    pairs: tuple[str, ...] | None = None
    model: ModelRecord | None = None
    versions: Versions | None = None
    begin: MissingBegin | None = None
    error: QuadratureError | None = None
    performance: TaskPerformance | None = None
    reliability: Reliability | None = None
    task: TaskRecord | None = None
    imported: ImportRecord | None = None
    selection: SelectionRecord | None = None

    def extended(self, **parts: object) -> Provenance:
        """The same with these parts in place of its own.

        Args:
            **parts: fields, by name.

        Returns:
            Another record.

        Raises:
            pydantic.ValidationError: for a part of unknown name or of another type.
        """
        return Provenance(**{**dict(self), **parts})

    def scored_on(self, pairs: PairSet) -> int:
        """How many of these pairs the scores were made from, as far as is known.

        Args:
            pairs: a pair set.

        Returns:
            Their number.
        """
        if self.pairs is not None:
            return pairs.shared(self.pairs)
        return len(pairs) if self.is_of(pairs) else 0

    def is_of(self, pairs: PairSet) -> bool:
        """Whether the scores are known to be made from exactly this set of pairs.

        Args:
            pairs: a pair set.

        Returns:
            False where it is another set, or not known.
        """
        return self.data is not None and self.data.fingerprint == pairs.fingerprint


def selected(method: str, scores: Provenance, selection: SelectionRecord) -> Provenance:
    """The provenance of a circuit that is chosen from scores.

    Args:
        method: the scores'.
        scores: where the scores come from.
        selection: how the circuit is chosen.

    Returns:
        The method, the metric, the pairs as a set, the model without the folders that it lay in, so
        that equal runs give equal files, and the selection.
    """
    model = scores.model
    if model is not None:
        model = model.model_copy(update={"name": Path(model.name).name})
    return Provenance(
        method=method,
        metric=scores.metric,
        data=scores.data,
        model=model,
        selection=selection,
    )
