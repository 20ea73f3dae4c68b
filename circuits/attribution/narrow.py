"""Products of float32 numbers that hold no more than bfloat16's or float16's digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def narrow_products(device: torch.device, *, narrow: bool) -> Iterator[None]:
    """For one block of code, CUDA multiplies float32 matrices as TensorFloat-32, if `narrow`.

    That rounds factors to 10 bits behind the point, and sums in float32 as ever. Weights and z of a
    model in bfloat16 (7 bits) or float16 (10) pass whole; what was computed from them in float32,
    gradients over sigma and what norms put out, is rounded more finely than bfloat16 rounded it.
    """
    if device.type != "cuda" or not narrow:
        yield
        return
    products = torch.backends.cuda.matmul
    # Before torch 2.9 it is a switch of another name.
    new = hasattr(products, "fp32_precision")
    name, wanted = ("fp32_precision", "tf32") if new else ("allow_tf32", True)
    before = getattr(products, name)
    setattr(products, name, wanted)
    try:
        yield
    finally:
        setattr(products, name, before)
