"""What one pass through a model costs, found by running it on tensors without data.

The model is built from its configuration on PyTorch's meta device, where operations compute shapes
and nothing else, and run forward and backward. Every operation is seen: its floating-point
operations if it multiplies matrices, the bytes it reads and writes otherwise, and every tensor's
birth and death, so that the tensors which autograd keeps, and the highest mark of all that lives at
a time, are counted and not estimated by a formula for each architecture. Fused attention, which
meta tensors do not choose by themselves, is put where the device would choose it.

Scope: frozen weights unless told, gradients to the embedding, logits at the reads alone, as the
attribution engine runs a model. Memory is that of tensors; allocators add their slack.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from transformers import (
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from circuits.errors import CircuitsError

_aten = torch.ops.aten
_FUSED = _aten._scaled_dot_product_flash_attention_for_cpu
_FUSED_BACKWARD = _aten._scaled_dot_product_flash_attention_for_cpu_backward
_MOST_FUSED = 256  # widest head of the fused attention kernels on CUDA


@dataclass(frozen=True)
class Shape:
    """What a model is run on.

    reads: places of one example whose logits are looked at. device: "cpu" or "cuda", which decides
    on the attention kernel.
    """

    batch: int
    length: int
    reads: int = 1
    dtype: torch.dtype = torch.float32
    device: str = "cpu"


@dataclass(frozen=True)
class Pass:
    """The cost of one pass over a batch.

    matmul, attention: floating-point operations of matrix products and of fused attention.
    moved: bytes read and written by all other operations.
    kept: bytes that live at the end of the forward pass. peak: most bytes alive at a time. Both
        beside the weights.
    """

    matmul: int
    attention: int
    moved: int
    kept: int
    peak: int


@dataclass(frozen=True)
class Traced:
    """A model's passes: `forward` without gradients, `step` forward and backward.

    weights: bytes of parameters and buffers, tied ones once. parameters: their number.
    """

    parameters: int
    weights: int
    forward: Pass
    step: Pass


def trace(config: PreTrainedConfig, shape: Shape, *, trainable: bool = False) -> Traced:
    """Count the passes of a model of this configuration. No weight is read, nothing is allocated.

    trainable: gradients of all weights as well, as in fine-tuning.
    Raises CircuitsError for a model that cannot be run without data.
    """
    model = _empty(config, shape.dtype)
    model.requires_grad_(trainable)
    tensors = _storages([*model.parameters(), *model.buffers()])
    try:
        forward = _run(model, shape, backward=False, trainable=trainable)
        step = _run(model, shape, backward=True, trainable=trainable)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise CircuitsError(
            f"{type(model).__name__}: it cannot be planned, since its code depends on data "
            f"({str(error).splitlines()[0]})"
        ) from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Traced(parameters, sum(tensors.values()), forward, step)


def _empty(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    try:
        with torch.device("meta"):
            made: Any = AutoModelForCausalLM
            model: PreTrainedModel = made.from_config(config, dtype=dtype)
    except (ValueError, KeyError) as error:
        raise CircuitsError(f"{type(config).__name__}: no language model ({error})") from error
    torch.nn.Module.train(model, False)
    return model


def _run(model: PreTrainedModel, shape: Shape, *, backward: bool, trainable: bool) -> Pass:
    tokens = torch.zeros(shape.batch, shape.length, dtype=torch.long, device="meta")
    reads = min(shape.reads, shape.length)
    leaves: list[Tensor] = [*model.parameters()] if trainable else []

    def leaf(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
        if trainable or not backward:
            return None
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    def gather(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, shape.length - reads :].flatten(0, 1)[None], *args[1:])

    handles = [
        model.get_input_embeddings().register_forward_hook(leaf),
        model.get_output_embeddings().register_forward_pre_hook(gather),
    ]
    counter = _Counter().outside([*model.parameters(), *model.buffers()])
    try:
        with torch.set_grad_enabled(backward), counter, _Attention(shape):
            logits = model(input_ids=tokens, use_cache=False).logits[0].float()
            metric = torch.log_softmax(logits, dim=-1)[:, :1].sum()
            kept = counter.live
            if backward:
                torch.autograd.grad(metric, leaves, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return Pass(counter.matmul, counter.attention, counter.moved, kept, counter.peak)


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Bytes of each storage, those that tensors share once."""
    return {id(t.untyped_storage()): t.untyped_storage().nbytes() for t in tensors}


class _Attention(TorchFunctionMode):
    """Attention as the device would run it: fused where it has a kernel for it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.device, self.dtype = shape.device, shape.dtype

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function is not scaled_dot_product_attention:
            return function(*args, **kwargs)
        given = _SIGNATURE.bind(*args, **kwargs)
        given.apply_defaults()
        call = given.arguments
        query, key, value = call["query"], call["key"], call["value"]
        if not self._fused(query, value, call["enable_gqa"]):
            return function(*args, **kwargs)
        mask = call["attn_mask"]
        if mask is not None:
            mask = mask.to(query.dtype)
        output, _ = _FUSED(
            query, key, value, 0.0, call["is_causal"], attn_mask=mask, scale=call["scale"]
        )
        return output

    def _fused(self, query: Tensor, value: Tensor, grouped: bool) -> bool:
        if query.shape[-1] != value.shape[-1]:
            return False
        if self.device == "cpu":
            return True
        # CUDA's kernel for float32 knows no grouped heads.
        half = self.dtype in (torch.float16, torch.bfloat16)
        return (half and query.shape[-1] <= _MOST_FUSED) or not grouped


def _attention_signature() -> inspect.Signature:
    def call(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None: ...

    return inspect.signature(call)


_SIGNATURE = _attention_signature()


class _Counter(TorchDispatchMode):
    """Sees every operation: work done, bytes moved, bytes alive."""

    matmul = attention = moved = live = peak = 0

    def outside(self, tensors: Iterable[Tensor]) -> _Counter:
        """Leave these tensors' memory out of account."""
        self._known: dict[int, object] = dict.fromkeys(_storages(tensors))
        return self

    def __torch_dispatch__(
        self,
        function: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function is _aten._local_scalar_dense.default:
            return True  # "is every position attended to?" is what models ask of their data
        output = function(*args, **kwargs)
        outputs = [x for x in _flat(output) if isinstance(x, Tensor)]
        for tensor in outputs:
            self._born(tensor)
        packet = function.overloadpacket
        inputs = [x for x in _flat(args) if isinstance(x, Tensor)]
        if packet in (_FUSED, _FUSED_BACKWARD):
            query, key = inputs[1:3] if packet is _FUSED_BACKWARD else inputs[:2]
            products = 5 if packet is _FUSED_BACKWARD else 2
            self.attention += 2 * products * query.numel() * key.shape[-2]
        elif packet in flop_registry:
            self.matmul += flop_registry[packet](*args, **kwargs, out_val=output)
        elif not function.is_view and packet not in (_aten.detach, _aten._unsafe_view):
            self.moved += sum(x.numel() * x.element_size() for x in (*inputs, *outputs))
        return output

    def _born(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return

        def died(_: object) -> None:
            self.live -= size
            del self._known[key]

        self.live += size
        self.peak = max(self.peak, self.live)
        self._known[key] = weakref.ref(storage, died)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]
