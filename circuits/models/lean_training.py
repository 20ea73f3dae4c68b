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
def layers_run_again(model: PreTrainedModel, **checkpoint: object) -> Iterator[None]:
    """Within, layers keep nothing for the backward pass and are run again in it, dropout alike.

    Args:
        model: any; its layers are run again in training mode.
        checkpoint: what `torch.utils.checkpoint.checkpoint` is given beside.

    Yields:
        Nothing.

    Raises:
        CircuitsError: where the model cannot run its layers again.
    """
    if not model.supports_gradient_checkpointing:
        raise CircuitsError(
            f"gradient_checkpointing: a {model.config.model_type} cannot run its layers again; "
            "leave it out, and use accumulation for less memory"
        )
    # transformers 5.2x gave it another name, and warns of the old one
    word = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    how = {f"{word}_checkpointing_kwargs": {"use_reentrant": False, **checkpoint}}
    getattr(model, f"{word}_checkpointing_enable")(**how)
    # It also asks for gradients of the embeddings, of a LoRA on the upper layers down to the first,
    # and goes on to when it is disabled. Only the reentrant kind needs them.
    model.disable_input_require_grads()
    try:
        yield
    finally:
        getattr(model, f"{word}_checkpointing_disable")()


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
