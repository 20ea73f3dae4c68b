"""What our own code keeps beside the model's passes. One line a buffer; keep in step with it.

Bytes a batch. `tokens` is batch x length, `item` the bytes of a number in the model's dtype.
"""

from __future__ import annotations

from circuits.planning.passes import Shape
from circuits.planning.sizes import Sizes

_CHUNK = 64 * 2**20  # of widened source outputs at a time, as in attribution/engine.py
_FLOAT = 4  # accumulators are float32 whatever the model is


def source_bytes(sizes: Sizes, shape: Shape) -> int:
    """One run's source outputs: the embedding, per layer z of all heads and the MLP's output."""
    layers, item = sizes.layout.n_layers, shape.dtype.itemsize
    heads = sizes.layout.n_heads * sizes.d_head
    return item * shape.batch * shape.length * (sizes.d_model + layers * (heads + sizes.d_model))


def engine_buffers(sizes: Sizes, shape: Shape, steps: int) -> dict[str, int]:
    """What the attribution engine keeps from the first step to the end."""
    layers, d, tokens = sizes.layout.n_layers, sizes.d_model, shape.batch * shape.length
    item = shape.dtype.itemsize
    turned = sizes.layout.n_heads + sizes.layout.n_kv_heads if sizes.rotary else 0
    return {
        "source deltas": source_bytes(sizes, shape),
        "ends of the path": 3 * item * tokens * d,
        "projected gradients": _FLOAT * tokens * layers * sizes.ports * sizes.d_head,
        "MLP and logits gradients": _FLOAT * tokens * (layers + 1) * d,
        "xhat": _FLOAT * tokens * steps * layers * d,
        "c": _FLOAT * tokens * steps * layers * sizes.ports,
        # The rest of the projections' outputs is what attention keeps anyway.
        "q and k before rotation": item * tokens * layers * turned * sizes.d_head,
    }


def contraction_buffers(sizes: Sizes, shape: Shape, steps: int) -> dict[str, int]:
    """What the last step, sources against readers, needs on top of `engine_buffers`."""
    layout, d = sizes.layout, sizes.d_model
    sources, readers = layout.shape
    chunk = min(shape.length, max(1, _CHUNK // (_FLOAT * sources * d)))
    return {
        "widened sources, and a transposed copy": 2 * _FLOAT * sources * chunk * d,
        "reader weights": _FLOAT * layout.n_layers * sizes.ports * sizes.d_head * d,
        "widened gradients of a layer": 2 * _FLOAT * sizes.ports * chunk * d,
        "sources along xhat": _FLOAT * layout.n_layers * steps * sources * chunk,
        "scores": 2 * _FLOAT * shape.batch * sources * readers,
    }


def executor_buffers(sizes: Sizes, shape: Shape) -> dict[str, int]:
    """What running circuits keeps: the corrupted run, the live one, and widened differences."""
    layers, d, tokens = sizes.layout.n_layers, sizes.d_model, shape.batch * shape.length
    item = shape.dtype.itemsize
    return {
        "sources, corrupted and live": 2 * source_bytes(sizes, shape),
        "corrupted readers": item * tokens * (layers * (2 * d + sizes.ports * sizes.d_head) + d),
        "widened differences, stacked": 2 * item * tokens * sizes.layout.shape[0] * d,
        # Beyond what the stack of the last layer lacks of the whole one.
        "inputs of a layer's readers": 2 * item * tokens * sizes.layout.n_heads * d,
    }
