"""Quantised weights that are multiplied as the numbers that they stand for.

bitsandbytes' own layers compute other things than a product with those numbers: its int8 layers
round what goes into them as well, by a rule that looks at all prompts of a batch, so that the
output is a function of steps, which has no gradient, and another beside other prompts; its 4-bit
layers give no gradient on a processor that they have packed the weights for. `exact_products`
puts a `QuantisedLinear` in the place of each: it keeps the same numbers in the same memory, and
turns one layer's at a time back into floating point, in the forward pass and in the backward one.
"""

from __future__ import annotations

from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from circuits.errors import CircuitsError, UnsupportedError
from circuits.models.placement import tensor_of
from circuits.options.choices import Quantisation
from circuits.options.declared import require_known

KINDS: tuple[Quantisation, ...] = get_args(Quantisation)
_BLOCK = 64  # neighbours that share a scale in 4 bits, as in bitsandbytes' own layers


class QuantisedLinear(nn.Module):
    """A linear layer whose matrix is kept in 8 or 4 bits.

    Attributes:
        kind: how a number is kept: int8, nf4, or fp4.
        codes: int8 (output, input), or uint8 with two numbers a byte.
        scales: float32, one for each output; in 4 bits, one for each block of neighbours.
        block: how many neighbours share a scale in 4 bits.
        dtype: what `weight` is given in.
    """

    codes: Tensor
    scales: Tensor

    def __init__(
        self,
        kind: str,
        shape: tuple[int, int],
        codes: Tensor,
        scales: Float[Tensor, " scale"],
        bias: Float[Tensor, " output"] | None,
        *,
        dtype: torch.dtype,
        block: int = _BLOCK,
    ) -> None:
        """shape: (output, input)."""
        super().__init__()
        self.kind, self.shape, self.block, self.dtype = kind, shape, block, dtype
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    @classmethod
    def of(cls, module: nn.Module, kind: Quantisation) -> QuantisedLinear:
        """Quantise a linear layer.

        Args:
            module: `nn.Linear` or GPT-2's `Conv1D`, on the device that it is to stay on.
            kind: int8 or nf4.

        Returns:
            A layer in its place; the module itself is left as it is.
        """
        from bitsandbytes import functional

        weight, bias = module.weight, module.bias
        assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
        matrix = (weight.T if isinstance(module, Conv1D) else weight).detach().contiguous()
        shape, dtype = (matrix.shape[0], matrix.shape[1]), matrix.dtype
        if kind == "int8":
            codes, scales, _ = functional.int8_vectorwise_quant(matrix.half())
            return cls(kind, shape, codes, scales, bias, dtype=dtype)
        codes, state = functional.quantize_4bit(matrix, blocksize=_BLOCK, quant_type=kind)
        return cls(kind, shape, codes, state.absmax, bias, dtype=dtype)

    @classmethod
    def without_data(cls, module: nn.Module, kind: Quantisation) -> QuantisedLinear:
        """What `of` makes, on the meta device, where nothing is computed.

        Args:
            module: `nn.Linear` or GPT-2's `Conv1D`, on the meta device.
            kind: int8 or nf4.

        Returns:
            A layer in its place, with as many bytes.
        """
        weight, bias = module.weight, module.bias
        assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))
        rows, columns = weight.T.shape if isinstance(module, Conv1D) else weight.shape
        shape, count = (rows, columns), rows * columns
        coded = {"int8": (shape, torch.int8, rows), "nf4": ((-(-count // 2), 1), torch.uint8, 0)}
        size, dtype, scales = coded[kind]
        return cls(
            kind,
            shape,
            torch.empty(size, dtype=dtype, device="meta"),
            torch.empty(scales or -(-count // _BLOCK), device="meta"),
            bias,
            dtype=weight.dtype,
        )

    @property
    def weight(self) -> Float[Tensor, "output input"]:
        """What the codes stand for, made again each time that it is read."""
        if self.kind == "int8":
            return (self.codes * (self.scales / 127)[:, None]).to(self.dtype)
        if self.codes.is_meta:
            return torch.empty(self.shape, dtype=self.dtype, device="meta")
        from bitsandbytes import functional

        state = functional.QuantState(
            absmax=self.scales,
            shape=torch.Size(self.shape),
            code=functional.get_4bit_type(self.kind, device=self.codes.device),
            blocksize=self.block,
            quant_type=self.kind,
            dtype=self.dtype,
        )
        weight: Tensor = functional.dequantize_4bit(self.codes, state)
        return weight

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        """The product with `weight`, and the bias."""
        product: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """x @ weight.T, the weight made in each direction and kept in neither."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, of: QuantisedLinear) -> Tensor:
        ctx.of = of  # type: ignore[attr-defined]
        return nn.functional.linear(x, of.weight.to(x.dtype))

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor
    ) -> tuple[Tensor, None]:
        (gradient,) = gradients
        weight = ctx.of.weight  # type: ignore[attr-defined]
        return gradient @ weight.to(gradient.dtype), None


def require_package(kind: str) -> None:
    """Refuse to quantise without the package that does it."""
    require_known("quantisation", kind, KINDS)
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise CircuitsError(
            f"{kind}: quantising needs the package bitsandbytes, which is not installed: "
            "pip install 'circuit-discovery[quantize]'"
        ) from error


def quantise(model: PreTrainedModel, kind: Quantisation) -> None:
    """Quantise the linear layers of a model in place, one after the other, but not its ends.

    Args:
        model: on the device that it is to stay on.
        kind: int8 or nf4.
    """
    for path, module in quantisable(model):
        model.set_submodule(path, QuantisedLinear.of(module, kind))


def quantisable(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The layers of a model that are quantised.

    Args:
        model: with plain weights.

    Returns:
        Linear layers by their paths, without the unembedding and what the model keeps in float32.
    """
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    wide = tuple(model._keep_in_fp32_modules or ())  # what transformers' own way leaves out too
    return [
        (path, module)
        for path, module in model.named_modules()
        if type(module) in (nn.Linear, Conv1D)
        and module not in ends
        and not any(name in path.split(".") for name in wide)
    ]


def exact_products(model: nn.Module) -> None:
    """Put a `QuantisedLinear` in the place of every layer of bitsandbytes, in place.

    Args:
        model: as transformers loads it with a quantisation of bitsandbytes.

    Raises:
        UnsupportedError: for a layer that holds no such numbers.
    """
    dtype = getattr(model, "dtype", torch.float32)
    for path, module in list(model.named_modules()):
        name = type(module).__name__
        if type(module).__module__.startswith("bitsandbytes.") and name in _READ:
            model.set_submodule(path, _READ[name](path, module, dtype))


def _of_8bit(path: str, module: nn.Module, dtype: torch.dtype) -> QuantisedLinear:
    weight, state = module.weight, getattr(module, "state", None)
    scales = getattr(weight, "SCB", None)
    if scales is None:  # behind the first run they stand there
        scales = getattr(state, "SCB", None)
    if not isinstance(weight, Tensor) or weight.dtype != torch.int8 or scales is None:
        raise UnsupportedError(f"{path}: a layer of bitsandbytes that holds no int8 weights")
    codes, bias = weight.detach().as_subclass(Tensor), module.bias
    assert bias is None or isinstance(bias, Tensor)
    return QuantisedLinear(
        "int8", (codes.shape[0], codes.shape[1]), codes, scales, bias, dtype=dtype
    )


def _of_4bit(path: str, module: nn.Module, dtype: torch.dtype) -> QuantisedLinear:
    weight, bias = module.weight, module.bias
    state = getattr(weight, "quant_state", None)
    if (
        not isinstance(weight, Tensor)
        or state is None
        or getattr(state, "packing_format_for_cpu", False)
    ):
        raise UnsupportedError(
            f"{path}: a layer of bitsandbytes whose 4-bit weights are not there, or are packed for "
            "this processor by a run; load the model again"
        )
    from bitsandbytes import functional

    scales = state.absmax
    if state.nested:
        scales = functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
    assert bias is None or isinstance(bias, Tensor)
    return QuantisedLinear(
        state.quant_type,
        (state.shape[0], state.shape[1]),
        weight.detach().as_subclass(Tensor).contiguous().view(torch.uint8).view(-1, 1),
        scales.float(),
        bias,
        dtype=dtype,
        block=state.blocksize,
    )


_READ = {
    "Linear8bitLt": _of_8bit,
    "Linear4bit": _of_4bit,
    "LinearNF4": _of_4bit,
    "LinearFP4": _of_4bit,
}


def kept_as(model: nn.Module) -> str | None:
    """How the weights of a model's `QuantisedLinear` layers are kept.

    Args:
        model: any.

    Returns:
        int8, nf4 or fp4; None where it has no such layer.
    """
    return next(
        (layer.kind for layer in model.modules() if isinstance(layer, QuantisedLinear)), None
    )


def unquantised_bytes(model: nn.Module) -> int:
    """Memory that a model's weights would take as plain numbers of the type that it computes in.

    Args:
        model: with a `QuantisedLinear` where bitsandbytes' layers were.

    Returns:
        Bytes.
    """
    parameter_bytes = sum(
        parameter.numel() * parameter.element_size() for parameter in model.parameters()
    )
    layers = (layer for layer in model.modules() if isinstance(layer, QuantisedLinear))
    return parameter_bytes + sum(
        layer.shape[0] * layer.shape[1] * layer.dtype.itemsize for layer in layers
    )


def dequantised(module: nn.Module) -> Tensor:
    """The matrix that a linear layer stands for, out of its quantisation if it has one.

    Args:
        module: with a `weight`.

    Returns:
        The weight itself where it is plain.

    Raises:
        UnsupportedError: where it is no matrix of floating-point numbers, nor can be made one.
    """
    weight = tensor_of(module, "weight")
    turn_back = getattr(weight, "dequantize", None)
    if isinstance(weight, Tensor) and type(weight) not in (Tensor, nn.Parameter) and turn_back:
        weight = turn_back()
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise UnsupportedError(f"{type(module).__name__}: not a linear projection")
    return weight
