"""Products of two parts of which each passes only a share of its gradient on.

A product's gradients, times its factors, add up to twice the product. With half of each they add up
to it once: LRP's half rule, and GIM's "gradient normalisation". Queries and keys meet in a product
inside a factor of another one (the pattern, times the values), so a quarter is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from circuits.models.hooks import Hooks
from circuits.models.view import Attention
from circuits.runtime.autograd import Context


def share_gates(hooks: Hooks, hidden: nn.Module, share: float) -> None:
    """Let both factors of a gated product have a share of its gradient.

    What looks at the product itself, behind these hooks, sees all of it.

    Args:
        hooks: to add to.
        hidden: the module that the product goes into.
        share: of the gradient.
    """
    hooks.before(hidden, partial(_Share.apply, share), in_graph=True)


def share_ports(hooks: Hooks, attention: Attention, shares: Mapping[str, float]) -> None:
    """Let queries, keys and values have a share of their gradient.

    What watches a projection's output, by hooks that come before these, sees the share.

    Args:
        hooks: to add to, behind all that watches.
        attention: whose projections.
        shares: by port, "q", "k", "v"; 1 where one is left out.
    """
    by_module: dict[nn.Module, dict[str, float]] = {}
    for projection in attention.projections:
        by_module.setdefault(projection.module, {})[projection.port] = shares.get(
            projection.port, 1.0
        )
    for module, port_shares in by_module.items():
        if len(port_shares) == 1:
            (share,) = port_shares.values()
            edit = partial(_Share.apply, share)
        else:
            edit = partial(_share_features, attention, port_shares)
        hooks.after(module, edit, in_graph=True)


def _share_features(attention: Attention, shares: Mapping[str, float], output: Tensor) -> Tensor:
    of_features = torch.ones_like(output[0, :1])
    for projection in attention.projections:
        if projection.port in shares:
            projection.heads(of_features).fill_(shares[projection.port])
    shared: Callable[..., Tensor] = _Share.apply
    return shared(of_features[0], output)


class _Share(torch.autograd.Function):
    """The same tensor, and a share of its gradient."""

    @staticmethod
    def forward(ctx: Context, share: float | Tensor, x: Tensor) -> Tensor:
        ctx.share = share
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient * ctx.share
