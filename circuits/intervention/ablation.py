"""What stands in for the sources that a circuit leaves out.

corrupted: the source's own output on the corrupted prompt (interchange, resample ablation).
mean: its mean over the positions of a data set; mean-positional: over the examples, position by
position. zero: nothing. Wang et al. (2022) ablate by the mean, Conmy et al. (2023) compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Literal, TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuits.errors import CircuitsError
from circuits.models import DecomposedStream, HookedModel, SourceActivations
from circuits.models.hooks import Hooks
from circuits.models.inputs import Prefix
from circuits.models.placement import through
from circuits.models.view import ReadsHeads, ReadsInput, View, WritesHeads
from circuits.options.choices import Ablation
from circuits.options.declared import require_known
from circuits.options.engine import RayEngine
from circuits.runtime.batching import over_batches
from tasks.pairs import PairBatch, PairSet

Key = TypeVar("Key")

ConstantKind = Literal["mean", "mean-positional", "optimal"]
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)


@dataclass
class AblatedRun:
    """A run in which no edge is kept.

    states: what each source gives. inputs: the stream that each reader then reads.
    values: what each q, k, v projection's module then gives.
    """

    states: SourceActivations
    inputs: dict[ReadsHeads | ReadsInput, Tensor] = field(default_factory=dict)
    values: dict[nn.Module, Tensor] = field(default_factory=dict)

    @classmethod
    def corrupted(
        cls, model: HookedModel, batch: PairBatch, prefix: Prefix | None
    ) -> tuple[AblatedRun, Float[Tensor, "read vocab"]]:
        """The corrupted run, with its logits."""
        reference, hooks = cls(SourceActivations(model.view)), Hooks()
        reference.states.record(hooks)
        for stream in model.view.streams:
            for event in stream.events:
                if isinstance(event, ReadsHeads):
                    hooks.before(event.at, partial(_keep, reference.inputs, event))
                    for module in event.modules:
                        hooks.after(module, partial(_keep, reference.values, module))
                elif isinstance(event, ReadsInput):
                    hooked = event.module if event.norm is None else event.norm.module
                    hooks.before(hooked, partial(_keep, reference.inputs, event))
        with torch.no_grad():
            logits = model.logits(batch.corrupted, batch, hooks, prefix)
        return reference, logits

    @classmethod
    def constant(cls, states: SourceActivations) -> AblatedRun:
        """From what every source is set to."""
        view, everything = states.view, slice(None)
        reference = cls(states)
        for stream in view.streams:
            wide = DecomposedStream(stream, [states], (everything, everything))
            biases: list[tuple[int, Tensor]] = []
            for event in stream.events:
                if isinstance(event, ReadsInput | ReadsHeads):
                    column = event.column if isinstance(event, ReadsInput) else event.span.start
                    rows = view.layout.visible(column)
                    total = wide.seen(rows).sum(dim=0)
                    for row, bias in biases:
                        total = total + bias.float() if row in rows else total
                    reference.inputs[event] = total.to(states.inputs[0].dtype)
                if isinstance(event, ReadsHeads):
                    reference._project(event)
                if isinstance(event, WritesHeads) and event.attention.output_bias is not None:
                    biases.append((event.attention.place.rows.start, event.attention.output_bias))
                wide.pass_by(event)
        return reference

    def tensors(self) -> Iterator[Tensor]:
        """All that it holds."""
        yield from self.states.tensors()
        yield from self.inputs.values()
        yield from self.values.values()

    def _project(self, event: ReadsHeads) -> None:
        value = self.inputs[event]
        if event.norm is not None:
            value = through(event.norm.module, value)
        for module in event.modules:
            output = through(module, value)
            if module in self.values:  # q by one event, k and v by another
                continue
            self.values[module] = output


def _keep(values: dict[Key, Tensor], key: Key, x: Tensor) -> None:
    values[key] = x.detach()


@dataclass(frozen=True)
class MeanActivations:
    """The mean output of every source, by position or over all of them.

    Attributes:
        ablation: "mean" or "mean-positional"; "optimal" where they were learned.
        inputs: per stream, as in `SourceActivations`; float32, (pos, ...), one position for "mean".
        z: the same per attention.
        mlp: the same per MLP.
        hidden: the same of each MLP's neurons; empty where they were not asked for.
    """

    ablation: ConstantKind
    inputs: tuple[Tensor, ...]
    z: tuple[Tensor, ...]
    mlp: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...] = ()

    @classmethod
    def of(
        cls,
        model: HookedModel,
        pairs: PairSet,
        ablation: Ablation = "mean",
        *,
        neurons: bool = False,
        batch_size: int | None = None,
        engine: RayEngine | None = None,
    ) -> MeanActivations:
        """Take means over the clean prompts of a set; one forward pass of each, padding left out.

        Args:
            model: the model to run.
            pairs: what the means are over.
            ablation: "mean" over all positions, or "mean-positional".
            neurons: also of the neurons of MLPs, which circuits of neurons need.
            batch_size: pairs at a time; None takes the usual number.
            engine: whose workers run the model; None runs it in this process.

        Returns:
            The means.

        Raises:
            CircuitsError: for another ablation, and for models whose norms rescale the stream.
        """
        if ablation not in ("mean", "mean-positional"):
            raise CircuitsError(f"no mean for {ablation!r}; known: mean, mean-positional")
        require_linear(model.view, ablation)
        longest = max(len(pair) for pair in pairs)
        sums: list[Tensor] = []
        counts: list[Tensor] = []

        for _, batch_sums in over_batches(
            model, pairs, _Sums(neurons), batch_size=batch_size, engine=engine
        ):
            for index, (total, count) in enumerate(batch_sums):
                if index == len(sums):
                    sums.append(total.new_zeros(longest, *total.shape[1:], dtype=torch.float64))
                    counts.append(total.new_zeros(longest, dtype=torch.float64))
                sums[index][: len(total)] += total
                counts[index][: len(count)] += count
        means = []
        for total, count in zip(sums, counts, strict=True):
            shape = (-1, *[1] * (total.ndim - 1))
            overall = total.sum(dim=0, keepdim=True) / count.sum()
            mean = overall
            if ablation == "mean-positional":
                mean = torch.where(
                    count.view(shape) > 0, total / count.clamp(min=1).view(shape), overall
                )
            means.append(mean.float())
        view = model.view
        sizes = (len(view.streams), len(view.attentions), len(view.mlps), len(view.mlps))
        left = iter(means)
        return cls(ablation, *(tuple(islice(left, size)) for size in sizes))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them."""
        return (*self.inputs, *self.z, *self.mlp, *self.hidden)

    def learnable(self) -> MeanActivations:
        """Copies that ask for a gradient, as constants that are no means any more."""
        return self._each("optimal", lambda tensor: tensor.clone().requires_grad_())

    def detached(self) -> MeanActivations:
        """The same without gradients."""
        return self._each(self.ablation, Tensor.detach)

    def _each(self, ablation: ConstantKind, change: Callable[[Tensor], Tensor]) -> MeanActivations:
        parts = (self.inputs, self.z, self.mlp, self.hidden)
        return MeanActivations(ablation, *(tuple(map(change, part)) for part in parts))

    def states(self, model: HookedModel, batch: PairBatch) -> SourceActivations:
        """These means as the sources of a batch.

        Args:
            model: the model that the means were taken of.
            batch: gives the number of examples and positions.

        Returns:
            What each source gives at each position of the batch.
        """
        shapes = _shapes(model, batch)
        device, dtype = model.device, model.hf.dtype

        def spread(mean: Tensor, stream: int) -> Tensor:
            n, length = shapes[stream]
            if mean.shape[0] > 1:
                short = length - mean.shape[0]
                mean = (
                    mean[:length]
                    if short <= 0
                    else torch.cat([mean, mean[-1:].expand(short, *mean.shape[1:])])
                )
            return mean.to(device, dtype).expand(n, length, *mean.shape[1:])

        owners = _owners(model.view)
        return SourceActivations(
            model.view,
            {index: spread(mean, index) for index, mean in enumerate(self.inputs)},
            {index: spread(mean, owners[0][index]) for index, mean in enumerate(self.z)},
            {index: spread(mean, owners[1][index]) for index, mean in enumerate(self.mlp)},
            hidden={
                index: spread(mean, owners[1][index]) for index, mean in enumerate(self.hidden)
            },
        )


@dataclass(frozen=True)
class _Sums:
    """The work on a batch: each tensor's sum over examples and how many there are, by position.

    neurons: also of the neurons of MLPs.
    """

    neurons: bool

    def __call__(self, model: HookedModel, batch: PairBatch) -> list[tuple[Tensor, Tensor]]:
        states, hooks = SourceActivations(model.view), Hooks()
        states.record(hooks)
        if self.neurons:
            states.record_neurons(hooks)
        with torch.no_grad():
            model.logits(batch.clean, batch, hooks)
        lengths = model.model_inputs(batch.clean, batch).lengths
        sums = []
        for values, stream in _flat(states):
            inside = torch.arange(values.shape[1], device=values.device) < lengths[stream][:, None]
            masked = values.float() * inside.view(*inside.shape, *[1] * (values.ndim - 2))
            sums.append((masked.sum(dim=0), inside.sum(dim=0)))
        return sums


def zeros(model: HookedModel, batch: PairBatch) -> SourceActivations:
    """Every source silent."""
    require_linear(model.view, "zero")
    layout, view = model.layout, model.view
    shapes, owners = _shapes(model, batch), _owners(view)
    blank = partial(torch.zeros, device=model.device, dtype=model.hf.dtype)
    d_z = [a.output_weight.shape[1] for a in view.attentions]
    return SourceActivations(
        view,
        {stream: blank(*shape, view.d_model) for stream, shape in enumerate(shapes)},
        {
            index: blank(*shapes[stream], layout.n_heads, d_z[index])
            for index, stream in enumerate(owners[0])
        },
        {index: blank(*shapes[stream], view.d_model) for index, stream in enumerate(owners[1])},
        hidden={
            index: blank(1, 1, 1).expand(*shapes[owners[1][index]], view.widths[mlp.place.row])
            for index, mlp in enumerate(view.mlps)
        },
    )


def require_linear(view: View, ablation: Ablation) -> None:
    """Refuse constants where a run's own norms decide what a source brings to a reader."""
    if not view.linear:
        raise CircuitsError(
            f"{ablation} ablation is not defined for post-norm models: what a source brings "
            "to a reader is scaled by the norms of a run, and no run has these outputs; use "
            "corrupted"
        )


def _flat(states: SourceActivations) -> list[tuple[Tensor, int]]:
    """All tensors of a run, with the stream that each belongs to."""
    attentions, mlps = _owners(states.view)
    return [
        *((values, stream) for stream, values in sorted(states.inputs.items())),
        *((states.z[index], stream) for index, stream in enumerate(attentions)),
        *((states.mlp[index], stream) for index, stream in enumerate(mlps)),
        *(
            (hidden.view(*states.mlp[index].shape[:2], -1), mlps[index])
            for index, hidden in sorted(states.hidden.items())
        ),
    ]


def _owners(view: View) -> tuple[list[int], list[int]]:
    """Which stream each attention and each MLP writes to."""
    last = len(view.streams) - 1
    return (
        [0 if attention.place.encoder else last for attention in view.attentions],
        [0 if mlp.place.encoder else last for mlp in view.mlps],
    )


def _shapes(model: HookedModel, batch: PairBatch) -> list[tuple[int, int]]:
    """Batch and positions of each stream."""
    arguments = model.model_inputs(batch.clean, batch).arguments
    names = ("input_ids", "decoder_input_ids")
    input_ids = (arguments[name] for name in names if name in arguments)
    return [(len(ids), ids.shape[1]) for ids in input_ids if isinstance(ids, Tensor)]


Constants = Callable[[HookedModel, PairBatch], SourceActivations]


def constants(
    ablation: Ablation | MeanActivations,
    model: HookedModel,
    pairs: PairSet | None,
    *,
    neurons: bool = False,
    engine: RayEngine | None = None,
) -> Constants | None:
    """What takes the place of removed sources.

    Args:
        ablation: one of ABLATIONS, or means taken before.
        model: the model that will be run.
        pairs: what means are taken over; not needed for "corrupted", "zero" and means taken before.
        neurons: whether circuits of neurons are to run, so that means are taken of them as well.
        engine: whose workers take means; None takes them in this process.

    Returns:
        A function from model and batch to every source's constants; None for the corrupted run
        itself.

    Raises:
        CircuitsError: for an unknown ablation, and where pairs are missing.
    """
    if isinstance(ablation, MeanActivations):
        return ablation.states
    require_known("ablation", ablation, ABLATIONS)
    if ablation == "corrupted":
        return None
    if ablation == "zero":
        return zeros
    if pairs is None:
        raise CircuitsError(f"{ablation} ablation needs the pairs that the mean is over")
    return MeanActivations.of(model, pairs, ablation, neurons=neurons, engine=engine).states
