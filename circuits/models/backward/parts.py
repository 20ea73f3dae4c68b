"""What of a model is not linear, found by a run on a few random tokens and proved there.

A rule that is applied to half of a model gives numbers that look right. So what a rule is about is
looked for where it happens, and what is not understood is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from circuits.errors import UnsupportedError
from circuits.models.activation_functions import ACTIVATIONS
from circuits.models.backward.norms import is_norm
from circuits.models.backward.softmax import WeightsSeen
from circuits.models.forwards import replaced_forwards
from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.rounding import allowed_error
from circuits.models.selfcheck import probe
from circuits.models.view import MLP, View

if TYPE_CHECKING:
    from circuits.models.hooked import HookedModel


@dataclass(frozen=True)
class NonlinearParts:
    """Norms, activation functions, gated products and softmaxes of one model.

    norms: all that a run goes through, those of queries and keys too. activations: one of each MLP.
    gated: MLPs whose activation's output is multiplied with something else. odd_norms, odd_mlps,
    odd_ratios, odd_softmax: why rules about them cannot be followed; "" where they can.
    """

    norms: tuple[Norm, ...]
    activations: tuple[nn.Module, ...]
    gated: tuple[MLP, ...]
    odd_norms: str
    odd_mlps: str
    odd_ratios: str
    odd_softmax: str

    @classmethod
    def of(cls, model: HookedModel) -> NonlinearParts:
        """Run the model once and look.

        Args:
            model: whose view is proved.
        """
        run = _Run(model)
        norms, odd_norms = _described(run.norms)
        activations = [run.activations.get(mlp, []) for mlp in model.view.mlps]
        return cls(
            norms,
            tuple(dict.fromkeys(module for modules in activations for module in modules)),
            tuple(mlp for mlp in model.view.mlps if mlp in run.gated),
            odd_norms,
            run.odd_mlps(),
            _no_ratio([module for modules in activations for module in modules]),
            run.odd_softmax(),
        )


class _Run:
    """What a forward pass goes through, in the order in which it does."""

    def __init__(self, model: HookedModel) -> None:
        self.view: View = model.view
        self.tolerance = allowed_error(model.hf.dtype)
        self.norms: list[nn.Module] = []
        self.activations: dict[MLP, list[nn.Module]] = {}
        self.gated: set[MLP] = set()
        self.weights = {attention.module: WeightsSeen() for attention in self.view.attentions}
        self._odd: list[str] = []
        self._since: list[tuple[nn.Module, Tensor]] = []
        hooks = Hooks()
        for module in model.hf.modules():
            if is_norm(module):
                hooks.before(module, partial(self._normalised, module))
            if isinstance(module, ACTIVATIONS):
                hooks.after(module, partial(self._activated, module))
        for mlp in self.view.mlps:
            hooks.before(mlp.hidden, partial(self._hidden, mlp))
        counted = {
            module: partial(_counted, module.forward, seen) for module, seen in self.weights.items()
        }
        batch = probe(model)
        with torch.enable_grad(), replaced_forwards(counted):
            model.logits(batch.clean, batch, hooks)

    def _normalised(self, module: nn.Module, _: Tensor) -> None:
        self.norms.append(module)

    def _activated(self, module: nn.Module, output: Tensor) -> Tensor:
        # Drawn, since it may be all zeros, which tell nothing of what is done with it.
        drawn = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        leaf = drawn.to(output).requires_grad_()
        self._since.append((module, leaf))
        return leaf

    def _hidden(self, mlp: MLP, x: Tensor) -> Tensor:
        seen, self._since = self._since, []
        name = self.view.layout.sources[mlp.place.row]
        self.activations[mlp] = [module for module, _ in seen]
        if len(seen) != 1:
            self._odd.append(
                f"{name} calls {len(seen)} activation functions that are modules of their own, "
                "where rules for it need one"
            )
            return x.detach()
        ((_, leaf),) = seen
        if x.shape == leaf.shape and x.requires_grad:
            (slope,) = torch.autograd.grad(x.sum(), leaf)
            missed = float((slope * leaf - x).abs().max().detach())
            if missed <= self.tolerance * float(x.abs().max().detach()):
                if not torch.equal(leaf, x):
                    self.gated.add(mlp)
                return x.detach()
        self._odd.append(
            f"{name} does more with its activation function's output than multiply it, and no rule "
            "says what that passes on"
        )
        return x.detach()

    def odd_mlps(self) -> str:
        """The first MLP that is not understood, if any."""
        return self._odd[0] if self._odd else ""

    def odd_softmax(self) -> str:
        """The first attention whose softmax cannot be seen, if any."""
        for attention in self.view.attentions:
            if (count := self.weights[attention.module].count) != 1:
                return (
                    f"{attention.place.prefix} computes its weights by {count} of torch's "
                    "functions (scaled_dot_product_attention, softmax), where the softmax's "
                    "temperature needs one: load it with sdpa or eager attention"
                )
        return ""


def _counted(
    own: Callable[..., object], seen: WeightsSeen, *args: object, **kwargs: object
) -> object:
    with seen:
        return own(*args, **kwargs)


def _described(modules: list[nn.Module]) -> tuple[tuple[Norm, ...], str]:
    norms = []
    for module in dict.fromkeys(modules):
        try:
            norms.append(Norm.of(module))
        except UnsupportedError as error:
            return (), f"its norms cannot be frozen ({error})"
    return tuple(norms), ""


def _no_ratio(activations: list[nn.Module]) -> str:
    """Which activation function is not 0 at 0, so that its ratio to its input has no bound."""
    for module in activations:
        weight = next(module.parameters(), None)
        zero = torch.zeros(1, 1) if weight is None else weight.detach().new_zeros(1, 1)
        with torch.no_grad():
            value = float(module.forward(zero))
        if abs(value) > 1e-5:
            return (
                f"its activation function {type(module).__name__} gives {value:.2g} at 0, where "
                "relp's rule divides by its input"
            )
    return ""
