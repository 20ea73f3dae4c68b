"""What training leaves as it was: random numbers, and all of the model but its weights."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from circuits.tuning.tuned_model import TunedModel

_PREPARED = ("forward", "_original_forward", "_is_accelerate_prepared")
"""What accelerate sets on a model, which must not be there when it is trained or wrapped again."""


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Python's, NumPy's and torch's generators are put back after the block: Trainer seeds all."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def model_as_found(model: TunedModel) -> Iterator[None]:
    """Mode and `forward` are put back after the block."""
    training = model.training
    before = {name: vars(model)[name] for name in _PREPARED if name in vars(model)}
    try:
        yield
    finally:
        model.train(training)
        for name in _PREPARED:
            vars(model).pop(name, None)
        vars(model).update(before)


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Within, garbage is looked for among what is made within: accelerate asks for it at every
    start, which takes half a second where a few large libraries are imported.
    """
    if gc.get_freeze_count():  # the caller has set objects apart, which are not ours to put back
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
