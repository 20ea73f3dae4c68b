"""What of a backward pass can be other than the gradient, and the block of code in which it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from circuits.errors import UnsupportedError
from circuits.models.backward.activations import by_ratio
from circuits.models.backward.norms import frozen
from circuits.models.backward.products import share_gates, share_ports
from circuits.models.backward.softmax import tempered
from circuits.models.forwards import replaced_forwards
from circuits.models.hooks import Hooks

if TYPE_CHECKING:
    from circuits.models.hooked import HookedModel


@dataclass(frozen=True)
class BackwardRules:
    """How a backward pass differs from the gradient; by default not at all.

    Forward passes are always the model's own. What no rule is about keeps its gradient: matrices,
    the soft caps of Gemma 2, position biases.

    Attributes:
        frozen_norms: every norm's scale is a constant, those of queries and keys too.
        activation_ratios: an activation's gradient is f(x) / x.
        gate_share: share of the gradient of a gated product that each factor gets.
        score_share: share of their gradient that queries and keys get; 0 takes attention weights
            for constants.
        value_share: the same of values.
        temperature: of attention's softmax where it is differentiated.
    """

    frozen_norms: bool = False
    activation_ratios: bool = False
    gate_share: float | None = None
    score_share: float | None = None
    value_share: float | None = None
    temperature: float | None = None

    def require(self, model: HookedModel) -> None:
        """Refuse a model that these rules cannot be followed in.

        Args:
            model: to be differentiated.

        Raises:
            UnsupportedError: with the part and the reason.
        """
        parts, odd = model.nonlinear, []
        if self.frozen_norms:
            odd.append(parts.odd_norms)
        if self.gate_share is not None or self.activation_ratios:
            odd.append(parts.odd_mlps)
        if self.activation_ratios:
            odd.append(parts.odd_ratios)
        if self.temperature is not None:
            odd.append(parts.odd_softmax)
        for reason in filter(None, odd):
            raise UnsupportedError(
                f"{type(model.hf).__name__}: {reason}; score it by eap or eap-ig, which take "
                "gradients as they are"
            )

    @contextmanager
    def followed(self, model: HookedModel, hooks: Hooks) -> Iterator[None]:
        """For one block of code, the backward pass of one run follows these rules.

        Both the forward pass and the backward pass belong into the block. What watches the run sees
        the share of a projection's gradient that goes on, and all of a gated product's.

        Args:
            model: one that `require` lets pass.
            hooks: of that run, all that watches it added; they are added to.

        Yields:
            Nothing; on exit the model is as before.
        """
        if self == PLAIN:
            yield
            return
        first = Hooks()
        forwards: dict[nn.Module, Callable[..., object]] = {}
        parts, view = model.nonlinear, model.view
        if self.frozen_norms:
            forwards |= {norm.module: frozen(norm) for norm in parts.norms}
        if self.activation_ratios:
            forwards |= {module: by_ratio(module) for module in parts.activations}
        if self.gate_share is not None:
            for mlp in parts.gated:
                share_gates(first, mlp.hidden, self.gate_share)
        shares = {"q": self.score_share, "k": self.score_share, "v": self.value_share}
        port_shares = {port: share for port, share in shares.items() if share is not None}
        for attention in view.attentions:
            if port_shares:
                share_ports(hooks, attention, port_shares)
            if self.temperature is not None:
                forwards[attention.module] = tempered(attention.module, self.temperature)
        with replaced_forwards(forwards), first:
            yield


PLAIN = BackwardRules()
"""The gradient itself."""
