"""What one pass through a model costs, found by running it on tensors without data.

The model is built from its configuration on PyTorch's meta device, where operations compute shapes
and nothing else, and run forward and backward. Every operation is seen: its floating-point
operations if it multiplies matrices, the bytes it reads and writes otherwise, and every tensor's
birth and death, so that the tensors which autograd keeps, and the highest mark of all that lives at
a time, are counted and not estimated by a formula for each architecture. Fused attention, which
meta tensors do not choose by themselves, is put where the device would choose it.

Scope: frozen weights, gradients to the embedding, logits and the last layer at answer positions
alone, as the attribution engine runs a model; or a training step as `tuning.finetune` takes it, in
its pieces, dropout, clipping and AdamW included. Memory is that of tensors; allocators add their
slack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from circuits.errors import CircuitsError
from circuits.models.architecture import separable
from circuits.models.lean_training import (
    fused_activations,
    last_layer_alone,
    layers_run_again,
)
from circuits.models.quantised import QuantisedLinear, quantisable
from circuits.models.recompute import Recomputable, recomputed
from circuits.models.sparse_last_layer import sparse_last_layer
from circuits.options.choices import Quantisation
from circuits.options.tuning import StepOptions
from circuits.planning.counter import Counter, storages
from circuits.planning.empty_model import FAILURES, adapt, empty_model
from circuits.planning.kernels import Attention, MixedPrecision
from circuits.planning.spread import Parts


@dataclass(frozen=True)
class Shape:
    """What a model is run on.

    reads: places of one example whose logits are looked at. device: "cpu" or "cuda", which decides
    on the attention kernel. padded: whether a batch holds prompts of several lengths.
    shared: positions at the start that clean and corrupted prompts have in common, which are run
    once and go on as keys and values.
    """

    batch: int
    length: int
    answer_positions: int = 1
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    padded: bool = False
    shared: int = 0

    @property
    def tokens(self) -> int:
        """Positions of a batch that every pass runs."""
        return self.batch * (self.length - self.shared)


@dataclass(frozen=True)
class Workload:
    """Floating-point operations of matrix products and of fused attention, bytes that all other
    operations read and write, and how many operations a device is given one by one.
    """

    matmul: int = 0
    attention: int = 0
    moved: int = 0
    launches: int = 0

    def __mul__(self, times: int) -> Workload:
        return Workload(
            self.matmul * times, self.attention * times, self.moved * times, self.launches * times
        )

    def __add__(self, other: Workload) -> Workload:
        return Workload(
            self.matmul + other.matmul,
            self.attention + other.attention,
            self.moved + other.moved,
            self.launches + other.launches,
        )


@dataclass(frozen=True)
class Pass(Workload):
    """One pass over a batch, and the memory that it takes beside the weights.

    saved: bytes that live at the end of the forward pass. peak: most bytes alive at a time.
    """

    saved: int = 0
    peak: int = 0


@dataclass(frozen=True)
class TracedPasses:
    """A model's passes: `forward` without gradients, `step` forward and backward.

    prefix: the run of the shared start alone, if there is one.
    weights: bytes of parameters and buffers, tied ones once. parameters: their number. trained:
    bytes of those that are trained. eager: whether the model computes attention by itself.
    parts: what is put on a device as a whole, where a model is spread over several.
    """

    parameters: int
    weights: int
    trained: int
    eager: bool
    forward: Pass
    step: Pass
    parts: Parts
    prefix: Pass | None = None


def count_passes(
    config: PreTrainedConfig,
    shape: Shape,
    *,
    trains: str | None = None,
    recompute: bool = False,
    quantize: Quantisation | None = None,
    how: StepOptions | None = None,
) -> TracedPasses:
    """Count the passes of a model of this configuration. No weight is read, nothing is allocated.

    Args:
        config: of the model.
        shape: of a batch.
        trains: "weights" for a step that trains all of them, "lora" for one that trains an adapter
            of rank 8 on all layers; `step` then holds the optimizer's moments too.
        recompute: whether `step` runs layers again in its backward pass.
        quantize: how the weights of layers are kept; each is turned back where it is multiplied.
        how: how a step that trains is run; `step` is then all its pieces and the update.

    Returns:
        Memory and operations of each pass.

    Raises:
        CircuitsError: for a model that cannot be run without data, and for one that `HookedModel`
            would refuse.
    """
    content = _Content(config.to_json_string(use_diff=False), type(config), config)
    return _traced(content, shape, trains, recompute, quantize, how or StepOptions())


@dataclass(frozen=True)
class _Content:
    """A configuration, which is another where it says something else."""

    text: str
    kind: type[PreTrainedConfig]
    config: PreTrainedConfig = field(compare=False)


@lru_cache(maxsize=256)  # a plan asks for the same passes again while it looks for a batch
def _traced(
    content: _Content,
    shape: Shape,
    trains: str | None,
    recompute: bool,
    quantize: Quantisation | None,
    how: StepOptions,
) -> TracedPasses:
    model = empty_model(content.config, shape.dtype)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if quantize is not None:
        for path, module in quantisable(model):
            model.set_submodule(path, QuantisedLinear.without_data(module, quantize))
    tail: tuple[nn.Module, ...] = ()
    again = None
    if trains is None:  # refuses what cannot be scored or run on a circuit
        tail, parts = separable(model)
        again = parts if recompute else None
    model.requires_grad_(trains == "weights")
    if trains == "lora":
        adapt(model)
    if trains is not None and not how.gradient_checkpointing:  # as the trainer does
        tail = last_layer_alone(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tensors = storages([*model.parameters(), *model.buffers()])
    try:
        forward = _run(model, shape, backward=False)
        torch.nn.Module.train(model, trains is not None)
        if trains is None:
            step = _run(model, shape, backward=True, tail=tail, again=again)
        else:
            step = _step(model, shape, trained, tail, how)
        start = replace(shape, length=shape.shared, shared=0, answer_positions=1)
        prefix = _run(model, start, backward=False) if shape.shared else None
    except FAILURES as error:
        raise CircuitsError(
            f"{type(model).__name__}: it cannot be planned, since its code depends on data "
            f"({(str(error) or type(error).__name__).splitlines()[0]})"
        ) from error
    if trains == "lora":
        parameters += sum(parameter.numel() for parameter in trained)
    return TracedPasses(
        parameters,
        sum(tensors.values()),
        sum(storages(trained).values()),
        getattr(model.config, "_attn_implementation", None) != "sdpa",
        forward,
        step,
        Parts.of(model),
        prefix,
    )


def _run(
    model: PreTrainedModel,
    shape: Shape,
    *,
    backward: bool,
    tail: Sequence[nn.Module] = (),
    again: Recomputable | None = None,
) -> Pass:
    """A pass of a frozen model, without gradients or with those of its embedding."""
    leaves: list[Tensor] = []

    def leaf(_: nn.Module, __: object, output: Tensor) -> Tensor | None:
        if not backward:
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    counter = Counter([*model.parameters(), *model.buffers()], answer=not shape.padded)
    attention = Attention(shape.device)
    with counter, attention:
        tokens, mask = _tokens(shape)
        prefix_cache = _shared(model, tokens[:, : shape.shared]) if shape.shared else []
        arguments: dict[str, object] = {"input_ids": tokens[:, shape.shared :]}
        if prefix_cache:
            arguments["past_key_values"] = cache = DynamicCache()
            for layer, (keys, values) in enumerate(prefix_cache):
                cache.update(keys, values, layer)
        counter.matmul = counter.attention = counter.moved = counter.launches = 0
        counter.peak = counter.live
        handle = model.get_input_embeddings().register_forward_hook(leaf)
        try:
            # `autograd.grad` runs outside of modes like `Attention`.
            twice = nullcontext() if again is None else recomputed(again, Attention(shape.device))
            with torch.set_grad_enabled(backward), _at_answers(model, shape, tail), twice:
                metric = _metric(model(**arguments, attention_mask=mask, use_cache=False).logits)
                alive = counter.live
                if backward:
                    torch.autograd.grad(metric, leaves, allow_unused=True)
        finally:
            handle.remove()
    return _pass(counter, alive)


def _step(
    model: PreTrainedModel,
    shape: Shape,
    trained: Sequence[Tensor],
    tail: Sequence[nn.Module],
    how: StepOptions,
) -> Pass:
    """A step of training: each of its pieces forward and backward, then the update.

    All pieces but the first find the gradients of those before, so two of them say what any number
    of them takes.
    """
    piece = replace(shape, batch=-(-shape.batch // how.accumulation))

    @contextmanager
    def kernels() -> Iterator[None]:
        precision = MixedPrecision(shape.device) if how.bf16 else nullcontext()
        with Attention(shape.device), precision:
            yield

    again: AbstractContextManager[object] = nullcontext()
    if how.gradient_checkpointing:  # the backward pass runs outside of such modes
        again = layers_run_again(model, context_fn=lambda: (nullcontext(), kernels()))
    counter = Counter([*model.parameters(), *model.buffers()], answer=not shape.padded)
    with counter, fused_activations(model), again, _at_answers(model, piece, tail):
        optimizer = _begun(trained, shape.device)
        tokens, mask = _tokens(piece)
        counter.matmul = counter.attention = counter.moved = counter.launches = 0
        counter.peak = counter.live
        work = [Workload()]
        for _ in range(min(2, how.accumulation)):
            with torch.enable_grad():
                with kernels():
                    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
                metric = _metric(logits)
                del logits
                alive = counter.live
                torch.autograd.backward(metric)
            del metric
            work.append(_pass(counter, alive))
        clip_grad_norm_(trained, 1.0)
        optimizer.step()
    whole = _pass(counter, alive)
    before, behind = work[-2:]
    more = Workload(
        *(
            (how.accumulation - min(2, how.accumulation))
            * (getattr(behind, kind.name) - getattr(before, kind.name))
            for kind in fields(Workload)
        )
    )
    summed = whole + more
    return Pass(**vars(summed), saved=whole.saved, peak=whole.peak)


def _tokens(shape: Shape) -> tuple[Tensor, Tensor | None]:
    """A batch, and its mask where prompts are padded."""
    tokens = torch.zeros(shape.batch, shape.length, dtype=torch.long, device="meta")
    return tokens, torch.ones_like(tokens) if shape.padded else None


@contextmanager
def _at_answers(model: PreTrainedModel, shape: Shape, tail: Sequence[nn.Module]) -> Iterator[None]:
    """Within, there are logits, and what of the last layer they need, at answer positions alone."""
    places = torch.zeros(shape.batch * shape.answer_positions, dtype=torch.long, device="meta")

    def gather(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, -shape.answer_positions :].flatten(0, 1)[None], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        with sparse_last_layer(tail, shape.batch, places, places):
            yield
    finally:
        handle.remove()


def _metric(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits[0].float(), dim=-1)[:, :1].sum()


def _pass(counter: Counter, alive: int) -> Pass:
    """What was counted so far. alive: bytes at the end of the forward pass."""
    work = (counter.matmul, counter.attention, counter.moved, counter.launches)
    return Pass(*work, alive, counter.peak)


def _begun(trained: Sequence[Tensor], device: str) -> torch.optim.Optimizer:
    """An optimizer that has its moments, as all steps but the first find it."""
    optimizer = torch.optim.AdamW(trained, foreach=device == "cuda")  # as it chooses by itself
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def _shared(model: PreTrainedModel, tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each layer's keys and values of the shared start."""
    with torch.no_grad():
        run = model.base_model(input_ids=tokens, past_key_values=DynamicCache(), use_cache=True)
    return [(layer.keys, layer.values) for layer in run.past_key_values.layers]
