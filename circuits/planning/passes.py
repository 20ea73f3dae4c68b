"""What one pass through a model costs, found by running it on tensors without data.

The model is built from its configuration on PyTorch's meta device, where operations compute shapes
and nothing else, and run forward and backward. Every operation is seen: its floating-point
operations if it multiplies matrices, the bytes it reads and writes otherwise, and every tensor's
birth and death, so that the tensors which autograd keeps, and the highest mark of all that lives at
a time, are counted and not estimated by a formula for each architecture. Fused attention, which
meta tensors do not choose by themselves, is put where the device would choose it.

Scope: frozen weights, gradients to the embedding, logits and the last layer at answer positions
alone, as the attribution engine runs a model; or a training step as `tuning.finetune` takes it,
dropout, clipping and AdamW included. Memory is that of tensors; allocators add their slack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils import clip_grad_norm_
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from circuits.errors import CircuitsError
from circuits.models.adapters import quiet_peft
from circuits.models.architecture import separable
from circuits.models.language import auto_class, tower
from circuits.models.lean_training import fused_activations, last_layer_alone
from circuits.models.quantised import QuantisedLinear, quantisable
from circuits.models.recompute import Recomputable, recomputed
from circuits.models.sparse_last_layer import sparse_last_layer
from circuits.options.choices import Quantisation
from circuits.planning.counter import FUSED_ATTENTION, Counter, storages
from circuits.planning.spread import Parts

_WIDEST_FUSED = 256  # d_head of CUDA's fused kernels
_RANK = 8  # of the LoRA that is planned, on all layers
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
"""What a model's own code may raise on tensors without data; RuntimeError is the usual."""


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
) -> TracedPasses:
    """Count the passes of a model of this configuration. No weight is read, nothing is allocated.

    Args:
        config: of the model.
        shape: of a batch.
        trains: "weights" for a step that trains all of them, "lora" for one that trains an adapter
            of rank 8 on all layers; `step` then holds the optimizer's moments too.
        recompute: whether `step` runs layers again in its backward pass.
        quantize: how the weights of layers are kept; each is turned back where it is multiplied.

    Returns:
        Memory and operations of each pass.

    Raises:
        CircuitsError: for a model that cannot be run without data, and for one that `HookedModel`
            would refuse.
    """
    content = _Content(config.to_json_string(use_diff=False), type(config), config)
    return _traced(content, shape, trains, recompute, quantize)


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
) -> TracedPasses:
    model = _empty(content.config, shape.dtype)
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
        _adapt(model)
    if trains is not None:
        tail = last_layer_alone(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tensors = storages([*model.parameters(), *model.buffers()])
    try:
        forward = _run(model, shape, backward=False)
        torch.nn.Module.train(model, trains is not None)
        with nullcontext() if trains is None else fused_activations(model):
            step = _run(model, shape, backward=True, trained=trained, tail=tail, again=again)
        start = replace(shape, length=shape.shared, shared=0, answer_positions=1)
        prefix = _run(model, start, backward=False) if shape.shared else None
    except _FAILURES as error:
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


def _empty(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    if config.is_encoder_decoder:
        raise CircuitsError(
            f"{type(config).__name__}: no language model, but an encoder-decoder, whose passes are "
            "not planned"
        )
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto_class(config).from_config(config, dtype=dtype)
    except _FAILURES as error:
        raise CircuitsError(f"{type(config).__name__}: no language model ({error})") from error
    torch.nn.Module.train(model, False)
    # Else the model warns that its zeros are padding.
    model.config.get_text_config().pad_token_id = None
    return model


def _adapt(model: PreTrainedModel) -> None:
    """Put a LoRA on every linear map of the layers, of a model that sees those of its text."""
    from peft import LoraConfig, get_peft_model

    gpt2 = any(isinstance(module, Conv1D) for module in model.modules())
    inside = tower(model)
    linear: str | list[str] = "all-linear"
    if inside:
        named = model.named_modules()
        linear = [n for n, m in named if isinstance(m, nn.Linear) and n.startswith(f"{inside}.")]
    with quiet_peft(), torch.device("meta"):
        get_peft_model(
            model,
            LoraConfig(task_type="CAUSAL_LM", r=_RANK, target_modules=linear, fan_in_fan_out=gpt2),
        )


def _run(
    model: PreTrainedModel,
    shape: Shape,
    *,
    backward: bool,
    trained: Sequence[Tensor] = (),
    tail: Sequence[nn.Module] = (),
    again: Recomputable | None = None,
) -> Pass:
    tokens = torch.zeros(shape.batch, shape.length, dtype=torch.long, device="meta")
    mask = torch.ones_like(tokens) if shape.padded else None
    answer_positions = torch.zeros(
        shape.batch * shape.answer_positions, dtype=torch.long, device="meta"
    )
    leaves: list[Tensor] = []

    def leaf(_: nn.Module, __: object, output: Tensor) -> Tensor | None:
        if trained or not backward:
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    def gather(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, -shape.answer_positions :].flatten(0, 1)[None], *args[1:])

    counter = Counter([*model.parameters(), *model.buffers()], answer=not shape.padded)
    with counter, _Attention(shape):
        prefix_cache = _shared(model, tokens[:, : shape.shared]) if shape.shared else []
        optimizer = _begun(trained, shape.device) if trained else None
        arguments: dict[str, object] = {"input_ids": tokens[:, shape.shared :], "use_cache": False}
        if prefix_cache:
            arguments["past_key_values"] = cache = DynamicCache()
            for layer, (keys, values) in enumerate(prefix_cache):
                cache.update(keys, values, layer)
        counter.matmul = counter.attention = counter.moved = counter.launches = 0
        counter.peak = counter.live
        handles = [
            model.get_input_embeddings().register_forward_hook(leaf),
            model.get_output_embeddings().register_forward_pre_hook(gather),
        ]
        try:
            narrow = sparse_last_layer(tail, shape.batch, answer_positions, answer_positions)
            # `autograd.grad` runs outside of modes like `_Attention`.
            twice = nullcontext() if again is None else recomputed(again, _Attention(shape))
            with torch.set_grad_enabled(backward), narrow, twice:
                logits = model(**arguments, attention_mask=mask).logits[0].float()
                metric = torch.log_softmax(logits, dim=-1)[:, :1].sum()
                alive = counter.live
                if optimizer is not None:
                    torch.autograd.backward(metric)
                    clip_grad_norm_(trained, 1.0)
                    optimizer.step()
                elif backward:
                    torch.autograd.grad(metric, leaves, allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
    return Pass(
        counter.matmul,
        counter.attention,
        counter.moved,
        counter.launches,
        alive,
        counter.peak,
    )


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


class _Attention(TorchFunctionMode):
    """Attention as the device would run it: fused where it has a kernel for it."""

    def __init__(self, shape: Shape) -> None:
        TorchFunctionMode.__init__(self)
        self.device, self.dtype = shape.device, shape.dtype

    def __torch_function__(
        self,
        function: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if function is scaled_dot_product_attention:
            attend: Callable[..., Tensor] = self._attend
            return attend(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """The signature is PyTorch's."""
        if not self._fused(query, value, enable_gqa, dropout_p):
            return scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask,
                dropout_p,
                is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )
        mask = None if attn_mask is None else attn_mask.to(query.dtype)
        output: Tensor = FUSED_ATTENTION(
            query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale
        )[0]
        return output

    def _fused(self, query: Tensor, value: Tensor, grouped: bool, dropout: float) -> bool:
        if query.shape[-1] != value.shape[-1]:
            return False
        if self.device == "cpu":
            return dropout == 0
        # CUDA's kernel for float32 knows no grouped heads.
        half = self.dtype in (torch.float16, torch.bfloat16)
        return (half and query.shape[-1] <= _WIDEST_FUSED) or not grouped
