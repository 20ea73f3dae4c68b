"""LayerNorm and RMSNorm by one formula, read off a module and checked against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuits.errors import UnsupportedError
from circuits.models.placement import tensor_of, unhooked

_KINDS: tuple[Literal["layer", "rms"], ...] = ("layer", "rms")


@dataclass(frozen=True, eq=False)
class Norm:
    """y = weight * xhat + bias, with xhat = (x - mean) / sigma (LayerNorm) or x / sigma (RMSNorm).

    weight: the effective one (Gemma's 1 + w).
    """

    module: nn.Module
    kind: Literal["layer", "rms"]
    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"] | None
    eps: float

    @classmethod
    def of(cls, module: nn.Module) -> Norm:
        """Describe a norm module, and check the description on random input.

        It is run with other weights than its own, which may be zero and then tell nothing.
        """
        weight, bias = tensor_of(module, "weight"), tensor_of(module, "bias")
        eps = getattr(module, "eps", getattr(module, "variance_epsilon", None))
        if weight is None or eps is None:
            raise UnsupportedError(f"{type(module).__name__}: a norm without weight or epsilon")
        probe = torch.linspace(-1.0, 3.0, 4 * weight.numel(), device=weight.device)
        probe = (probe.sin() * 2 + 0.5).view(4, -1).to(weight.dtype)
        other = torch.linspace(0.5, 1.5, weight.numel(), device=weight.device)
        other = other.to(weight.dtype).view_as(weight)
        drawn = {"weight": other} if bias is None else {"weight": other, "bias": other.flip(0)}
        with torch.no_grad(), unhooked(module):
            expected = torch.func.functional_call(module, drawn, (probe,)).float()
            for kind in _KINDS:
                for shift in (0, 1):
                    norm = cls(module, kind, shift + other, drawn.get("bias"), float(eps))
                    if torch.allclose(norm._formula(probe), expected, atol=1e-4, rtol=1e-2):
                        effective = 1 + weight if shift else weight
                        return cls(module, kind, effective, bias, float(eps))
        raise UnsupportedError(f"{type(module).__name__}: neither a LayerNorm nor an RMSNorm")

    def inverse(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """1 / sigma, in float32."""
        if self.kind == "layer":
            return self._layer_norm(x)[1]
        x = x.float() if x.dtype == torch.float64 else x
        length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        return length.square().div_(x.shape[-1]).add_(self.eps).rsqrt_()

    def sigma(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """The scale, in float32."""
        return self.inverse(x).reciprocal_()

    def normalise(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """xhat, in float32."""
        if self.kind == "layer":
            return self._layer_norm(x)[0]
        x = x.float() if x.dtype == torch.float64 else x
        return x * self.inverse(x)

    def _layer_norm(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # One operation that gives xhat and 1 / sigma; on a CPU as fast as four.
        xhat, _, inverse = torch.native_layer_norm(x.float(), x.shape[-1:], None, None, self.eps)
        return xhat, inverse

    def centred(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """x without its mean under LayerNorm, x itself under RMSNorm."""
        return x - x.mean(dim=-1, keepdim=True) if self.kind == "layer" else x

    def pulled_back(
        self,
        gradient: Float[Tensor, "*batch d_model"],
        xhat: Float[Tensor, "*batch d_model"],
        inverse: Float[Tensor, "*batch 1"],
    ) -> Float[Tensor, "*batch d_model"]:
        """The gradient at the norm's input from the one at its output, in float32; inverse:
        1 / sigma.
        """
        inner = self.centred(gradient.float() * self.weight.float())
        return (inner - xhat * (xhat * inner).mean(dim=-1, keepdim=True)) * inverse

    def scaled_back(
        self,
        gradient: Float[Tensor, "*batch d_model"],
        inverse: Float[Tensor, "*batch 1"],
    ) -> Float[Tensor, "*batch d_model"]:
        """As `pulled_back`, through a norm whose sigma is taken for a constant."""
        weight = self.weight.to(gradient.device, torch.float32)
        return self.centred(gradient.float() * weight) * inverse

    def _formula(self, x: Tensor) -> Tensor:
        y = self.normalise(x) * self.weight.float()
        return y if self.bias is None else y + self.bias.float()
