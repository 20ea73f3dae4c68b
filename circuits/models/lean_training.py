"""What a training step can leave out or take at once, and be the same step to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.nn.functional import gelu
from transformers import PreTrainedModel
from transformers.activations import NewGELUActivation

from circuits.errors import CircuitsError
from circuits.models.architecture import separable
from circuits.models.forwards import replaced_forwards


def last_layer_alone(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    """What of the last layer is needed only where a target is read, for `sparse_last_layer`.

    Maps with dropout are left out: they would draw otherwise.

    Args:
        model: a causal model, with adapters inside its layers or without.

    Returns:
        Modules; none of a model whose parts are not known.
    """
    try:
        tail, _ = separable(model)
    except CircuitsError:
        return ()
    return tuple(part for part in tail if not any(map(_drops, part.modules())))


@contextmanager
def fused_activations(model: nn.Module) -> Iterator[None]:
    """Within, GPT-2's GELU, eight operations of transformers, is torch's one, both ways.

    Args:
        model: any.

    Yields:
        Nothing; on exit the activations run as before.
    """
    activations = [part for part in model.modules() if isinstance(part, NewGELUActivation)]
    with replaced_forwards(dict.fromkeys(activations, partial(gelu, approximate="tanh"))):
        yield


def _drops(module: nn.Module) -> bool:
    return isinstance(module, nn.Dropout) and module.p > 0
