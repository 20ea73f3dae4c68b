"""The metric of many circuits on the same examples: the raw material of every figure here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.errors import UndefinedMetricError
from circuits.evaluation.answers import is_choice, right
from circuits.graph import AnyCircuit
from circuits.intervention import CircuitRunner, MeanActivations, constants
from circuits.intervention.ablation import Constants
from circuits.metrics import Logits, Metric, metric_for
from circuits.models import HookedModel
from circuits.options.choices import Ablation
from circuits.options.run import RunOptions
from circuits.planning import choose_batch_size
from circuits.planning.costs import EVALUATE
from circuits.runtime.batching import over_batches
from circuits.runtime.resume import PartialResults, Pieces, digest
from circuits.runtime.runs_bar import RunsBar
from tasks.pairs import PairBatch, PairSet


@dataclass(frozen=True)
class Measured:
    """Metric values, one row an example, in the order of the pairs.

    clean, corrupted: of the whole model and of no edge. circuits: one column a circuit.
    """

    metric: str
    clean: Float[Tensor, " example"]
    corrupted: Float[Tensor, " example"]
    circuits: Float[Tensor, "example circuit"]

    def __post_init__(self) -> None:
        clean, corrupted = float(self.clean.mean()), float(self.corrupted.mean())
        if abs(clean - corrupted) <= 1e-6 * max(abs(clean), abs(corrupted), 1e-6):
            raise UndefinedMetricError(
                f"faithfulness is not defined: {self.metric} is {clean:.6g} on the clean prompts "
                f"and {corrupted:.6g} on the corrupted ones; the corruption changes nothing that "
                "the metric sees"
            )

    @property
    def columns(self) -> Float[Tensor, "example column"]:
        """Clean, corrupted, then the circuits, side by side: what resampling works on."""
        return self.of(range(self.circuits.shape[1]))

    def of(self, circuits: Sequence[int]) -> Float[Tensor, "example column"]:
        """Clean, corrupted, then these circuits."""
        circuit_values = self.circuits[:, list(circuits)]
        return torch.cat([self.clean[:, None], self.corrupted[:, None], circuit_values], dim=1)


@dataclass(frozen=True)
class Judged(Measured):
    """With what share of an example's answers is right (`answers.py`), a column as in `columns`."""

    right: Float[Tensor, "example column"]


def measure(
    model: HookedModel,
    pairs: PairSet,
    circuits: Sequence[AnyCircuit],
    *,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    options: RunOptions | None = None,
    progress: str | None = None,
    resume: Pieces | None = None,
) -> Judged:
    """Run every circuit on every pair; circuits share each batch's clean and corrupted runs.

    Equal circuits run once: of a random ranking's small circuits, all that pruning leaves empty.

    Args:
        model: what is run.
        pairs: prompt pairs.
        circuits: of edges, nodes or neurons of this model.
        metric: its name; None takes the pairs' own.
        ablation: what stands in for what is left out: "corrupted", "mean" or "mean-positional"
            (over these pairs' clean prompts, or from `MeanActivations.of` over others), "zero".
        options: batch size and engine; a batch size of None asks the planner for as many as fit.
        progress: what a progress bar is titled, which counts each pair's runs; None shows none.
        resume: keeps what was measured, as its next piece, within this process circuit by circuit:
            all circuits on one batch of a real model take many minutes of a CPU.

    Returns:
        The metric of every run, pair by pair, and whether it is right.

    Raises:
        UndefinedMetricError: where the clean and the corrupted metric are equal on average.
        CircuitsError: where the metric or the ablation is not known.
    """
    judge = metric_for(pairs, metric)
    model.validate(pairs)
    options = options or RunOptions()
    batch_size = options.batch_size
    if batch_size is None:
        batch_size = choose_batch_size(model, pairs, EVALUATE)
    masks = [(circuit.level, circuit.mask.numpy().tobytes()) for circuit in circuits]
    distinct = dict(zip(masks, circuits, strict=True))
    column_of = {mask: column for column, mask in enumerate(distinct, start=2)}
    columns = [column_of[mask] for mask in masks]
    values = torch.zeros(len(pairs), 2, 2 + len(distinct), dtype=torch.float64)
    measured = torch.zeros(len(pairs), 2 + len(distinct), dtype=torch.bool)

    piece = PartialResults() if resume is None else resume.tensors()
    if resume is not None:
        piece.restore(
            len(pairs),
            {
                "metric": judge.name,
                "circuits": digest(*(circuit.mask for circuit in distinct.values())),
                "ablation": _described(ablation),
                "model": [model.fingerprint, str(model.hf.dtype)],
                "pairs": pairs.fingerprint,
                "batch size": batch_size,
            },
            {"values": values, "there": measured},
        )
        if bool(piece.done.all()):
            return _measured(judge.name, values, columns)
    neurons = any(circuit.level == "neuron" for circuit in circuits)
    stand_in = constants(ablation, model, pairs, neurons=neurons, engine=options.engine)
    in_process = resume is not None and options.engine is None
    store = _Kept(values, measured, piece) if in_process else None
    with RunsBar(
        progress, examples=len(pairs), runs=values.shape[2], done=int(piece.done.sum())
    ) as bar:
        show = bar.within if options.engine is None else None
        for batch, batch_values in over_batches(
            model,
            pairs,
            _Columns(tuple(distinct.values()), judge, is_choice(pairs), stand_in, store, show),
            batch_size=batch_size,
            done=piece.done if len(piece.done) else None,
            engine=options.engine,
        ):
            values[batch.index.cpu()] = batch_values.double().cpu()
            if resume is not None:
                piece.keep(batch.index)
            bar.finish(len(batch))
    piece.write()
    return _measured(judge.name, values, columns)


def _measured(
    metric: str, values: Float[Tensor, "example 2 column"], columns: Sequence[int]
) -> Judged:
    """values: metric and whether it is right, clean, corrupted, then each distinct circuit."""
    metric_values, right = values.unbind(dim=1)
    return Judged(
        metric,
        metric_values[:, 0],
        metric_values[:, 1],
        metric_values[:, columns],
        right[:, [0, 1, *columns]],
    )


@dataclass(frozen=True)
class _Kept:
    """What was measured on a part of the circuits, for as long as a batch is not done.

    values, there: a row an example and a column a run; the second says which values are there.
    """

    values: Float[Tensor, "example 2 column"]
    there: Bool[Tensor, "example column"]
    piece: PartialResults

    def once(
        self,
        index: Int[Tensor, " batch"],
        column: int,
        work: Callable[[], Float[Tensor, "batch 2"]],
    ) -> Float[Tensor, "batch 2"]:
        """The column of these examples, made where it is not there."""
        if not bool(self.there[index, column].all()):
            self.values[index, :, column] = work().double().cpu()
            self.there[index, column] = True
            self.piece.keep(index[:0])  # no example is done yet
        return self.values[index, :, column]


@dataclass(frozen=True)
class _Columns:
    """The work on a batch: metric and whether it is right, clean, corrupted, then the circuits.

    choice: whether a right answer is one above the wrong ones.
    kept: what is there already and what becomes of the rest; None for another process.
    show: is told how many runs of the batch are done; None where that is out of sight.
    """

    circuits: tuple[AnyCircuit, ...]
    metric: Metric
    choice: bool
    stand_in: Constants | None
    kept: _Kept | None = None
    show: Callable[[int], None] | None = None

    def __call__(self, model: HookedModel, batch: PairBatch) -> Float[Tensor, "batch 2 column"]:
        executor = CircuitRunner(model, batch, self.stand_in)

        def judged(logits: Logits) -> Float[Tensor, "batch 2"]:
            figures = (
                self.metric(logits, batch, executor.clean),
                right(logits, batch, self.choice).to(logits.dtype),
            )
            return torch.stack(figures, dim=1)

        def of(circuit: AnyCircuit) -> Float[Tensor, "batch 2"]:
            return judged(executor.logits(circuit))

        columns = [judged(executor.clean), judged(executor.corrupted)]
        index = batch.index.cpu()
        if self.kept is not None:
            columns = [column.double().cpu() for column in columns]
        for circuit_column, circuit in enumerate(self.circuits, len(columns)):
            if self.show is not None:
                self.show(len(columns) * len(batch))
            work = partial(of, circuit)
            columns.append(
                work() if self.kept is None else self.kept.once(index, circuit_column, work)
            )
        return torch.stack(columns, dim=2)


def _described(ablation: Ablation | MeanActivations) -> str | list[str]:
    if isinstance(ablation, str):
        return ablation
    parts = (ablation.inputs, ablation.z, ablation.mlp, ablation.hidden)
    return [ablation.ablation, digest(*(tensor for part in parts for tensor in part))]


def degenerate_reason(
    circuit: AnyCircuit, ablation: Ablation | MeanActivations = "corrupted"
) -> str | None:
    """Say why a circuit can do nothing: f is 0 then, as what runs is the corrupted prompt.

    Args:
        circuit: of edges, nodes or neurons.
        ablation: what stands in for what is left out. Under means or zeros an edge does something
            without a path from the input.

    Returns:
        The reason; None where the circuit can do something.
    """
    if not len(circuit):
        return f"an empty circuit: no {circuit.level} was selected"
    if ablation == "corrupted" and not len(circuit.pruned()):
        return "a circuit without a path from input to logits"
    return None


def faithfulness_from_means(
    means: Float[Tensor, "*resample column"],
) -> Float[Tensor, "*resample circuit"]:
    """Faithfulness f = (m(C) - m(none)) / (m(model) - m(none)) from means of `Measured.columns`.

    Args:
        means: of the metric on the whole model, on no circuit, and on each circuit, in this order;
            leading axes are resamples.

    Returns:
        f of each circuit; infinite or NaN where the first two means are equal.
    """
    clean, corrupted = means[..., :1], means[..., 1:2]
    return (means[..., 2:] - corrupted) / (clean - corrupted)
