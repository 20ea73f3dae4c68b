"""What our own code keeps beside the model's passes. One line a buffer; keep in step with it.

Bytes a batch. `tokens` are the positions that every pass runs, `item` the bytes of a number in the
model's dtype. tests/planning compares the sums with what the engine and the executor allocate.
"""

from __future__ import annotations

from circuits.planning.passes import Shape
from circuits.planning.sizes import Sizes
from circuits.runtime.limits import (
    AUDITED,
    CHUNK_BYTES,
    CHUNK_SHARE,
    FLOW_CHUNK_BYTES,
    INPUT_BYTES,
    INPUTS_AT_ONCE,
    PATTERN_BYTES_CPU,
    PATTERN_BYTES_DEVICE,
    READERS_AT_ONCE,
)

_FLOAT = 4  # accumulators are float32 whatever the model is


def source_bytes(sizes: Sizes, shape: Shape) -> int:
    """One run's source outputs: the embedding, per layer z of all heads and the MLP's output."""
    layers, item = sizes.layout.n_layers, shape.dtype.itemsize
    heads = sizes.layout.n_heads * sizes.d_head
    return item * shape.tokens * (sizes.d_model + layers * (heads + sizes.d_model))


def engine_buffers(sizes: Sizes, shape: Shape, steps: int) -> dict[str, int]:
    """What the attribution engine keeps from the first step to the end."""
    layers, d, tokens = sizes.layout.n_layers, sizes.d_model, shape.tokens
    sources, readers = sizes.layout.shape
    item = shape.dtype.itemsize
    audited = min(AUDITED, layers)
    turned = sizes.layout.n_heads + sizes.layout.n_kv_heads if sizes.rotary else 0
    return {
        "source deltas": source_bytes(sizes, shape),
        "ends of the path": 3 * item * tokens * d,
        "projected gradients": _FLOAT * tokens * layers * sizes.ports * sizes.d_head,
        "MLP and logits gradients": _FLOAT * tokens * (layers + 1) * d,
        "c": _FLOAT * tokens * layers * sizes.ports,
        # In float32 they are what the pass keeps anyway.
        "inputs of norms": 0 if item == _FLOAT else item * tokens * layers * d,
        # The rest of the projections' outputs is what attention keeps anyway.
        "q and k before rotation": item * tokens * layers * turned * sizes.d_head,
        "scores": 2 * _FLOAT * shape.batch * sources * readers,  # a point's alone beside them
        "audited scores": _FLOAT
        * (shape.batch * steps * sources)
        * (audited * (sizes.ports + 1) + 1),
    }


def contraction_buffers(sizes: Sizes, shape: Shape, model_bytes: int) -> dict[str, int]:
    """What sources against readers needs on top of `engine_buffers`."""
    layout, d = sizes.layout, sizes.d_model
    sources, layer = layout.shape[0], sizes.ports + 1
    layers = min(layout.n_layers, -(-READERS_AT_ONCE // layer))
    room = max(CHUNK_BYTES, int(CHUNK_SHARE * model_bytes))
    chunk = max(1, room // (_FLOAT * d * (sources + layers * layer)))
    chunk = min(shape.length - shape.shared, chunk)
    return {
        "widened sources": _FLOAT * sources * chunk * d,
        "widened gradients": _FLOAT * layers * layer * chunk * d,
        "reader weights of a layer": _FLOAT * sizes.ports * sizes.d_head * d,
        "sources along xhat": _FLOAT * layers * (sources + d) * chunk,
        "inputs of norms": shape.dtype.itemsize * shape.tokens * layout.n_layers * d,
    }


def executor_buffers(sizes: Sizes, shape: Shape) -> dict[str, int]:
    """What running circuits keeps: the corrupted run, the live one, and widened differences."""
    layers, d, tokens = sizes.layout.n_layers, sizes.d_model, shape.tokens
    item = shape.dtype.itemsize
    stream = item * tokens * d
    fitting = max(1, INPUT_BYTES // stream)
    block, normed = min(INPUTS_AT_ONCE, fitting), min(sizes.layout.n_heads, fitting)
    return {
        "sources, corrupted and live": 2 * source_bytes(sizes, shape),
        "corrupted readers": item * tokens * (layers * (2 * d + sizes.ports * sizes.d_head) + d),
        "widened differences": sizes.layout.shape[0] * stream,
        "inputs of readers at once": (block + 2 * normed) * stream,
    }


def module_outputs(sizes: Sizes, shape: Shape) -> int:
    """What every attention and MLP wrote, in the clean and in the corrupted run."""
    return 2 * shape.dtype.itemsize * shape.tokens * 2 * sizes.layout.n_layers * sizes.d_model


def flow_buffers(sizes: Sizes, shape: Shape) -> dict[str, int]:
    """What information-flow routes keep of a run: sources, and the streams that are read."""
    streams = 2 * sizes.layout.n_layers + 1
    return {
        "source outputs": source_bytes(sizes, shape),
        "streams": shape.dtype.itemsize * shape.tokens * streams * sizes.d_model,
    }


def proximity_buffers(sizes: Sizes, shape: Shape) -> dict[str, int]:
    """What sources near readers need on top of `flow_buffers`."""
    sources, readers = sizes.layout.shape
    position = _FLOAT * sizes.d_model
    chunk = min(shape.length, max(1, FLOW_CHUNK_BYTES // (sources * position)))
    return {
        "widened sources, and a layer's heads": chunk * position * (sources + sizes.layout.n_heads),
        "scores": _FLOAT * shape.batch * sources * readers,
    }


def diff_buffers(sizes: Sizes, shape: Shape, *, eager: bool) -> dict[str, int]:
    """What both runs of `model_diff.diff_models` leave behind; eager: whole patterns (no SDPA)."""
    layers, item, tokens = sizes.layout.n_layers, shape.dtype.itemsize, shape.tokens
    seen = sizes.layout.n_heads * shape.length if eager else sizes.ports * sizes.d_head
    return {
        "attention": 2 * item * layers * tokens * seen,
        "hidden states": 2 * item * (layers + 1) * tokens * sizes.d_model,
    }


def distribution_buffers(sizes: Sizes, shape: Shape) -> dict[str, int]:
    """What attention side by side needs on top: two distributions, their logarithms, products."""
    row = _FLOAT * shape.batch * sizes.layout.n_heads * shape.length
    budget = PATTERN_BYTES_CPU if shape.device == "cpu" else PATTERN_BYTES_DEVICE
    return {"patterns": 6 * row * min(shape.length, max(1, budget // row))}
