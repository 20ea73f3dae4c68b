"""What our own code keeps beside the model's passes. One line a buffer; keep in step with it.

Bytes a batch. `tokens` are the positions that every pass runs, `item` the bytes of a number in the
model's dtype. tests/planning compares the sums with what the engine and the executor allocate.
"""

from __future__ import annotations

from dataclasses import dataclass

from circuits.planning.passes import Shape
from circuits.planning.sizes import Sizes
from circuits.runtime.limits import (
    AUDITED,
    FLOW_CHUNK_BYTES,
    HELD_DIFFERENCES,
    INPUTS_AT_ONCE,
    PASS_VECTORS,
    PATTERN_BYTES_CPU,
    PATTERN_BYTES_DEVICE,
    READERS_AT_ONCE,
    chunk_bytes,
    held_passes,
    input_bytes,
    readers_side_by_side,
    side_by_side,
)

_FLOAT = 4  # accumulators are float32 whatever the model is


def source_bytes(sizes: Sizes, shape: Shape) -> int:
    """One run's source outputs: the embedding, per layer z of all heads and the MLP's output."""
    layers, item = sizes.layout.n_layers, shape.dtype.itemsize
    heads = sizes.layout.n_heads * sizes.d_head
    return item * shape.tokens * (sizes.d_model + layers * (heads + sizes.d_model))


@dataclass(frozen=True)
class Engine:
    """What the attribution engine takes of one batch, see `attribution/meetings.py`.

    steps: points on the path. weights: the model's bytes. recompute: layers run again.
    """

    sizes: Sizes
    shape: Shape
    steps: int
    weights: int
    recompute: bool = False

    @property
    def audited(self) -> int:
        """Layers whose readers' scores are taken pass by pass."""
        return min(AUDITED, self.sizes.layout.n_layers)

    @property
    def n_passes(self) -> int:
        """Passes that meet the sources together."""
        if self.recompute:
            return 1
        sizes, layers = self.sizes, self.sizes.layout.n_layers
        alone = self.audited * sizes.ports * sizes.d_head + (self.audited + 1) * sizes.d_model
        a_position = _FLOAT * (layers * sizes.ports + alone)
        a_position += self.shape.dtype.itemsize * sizes.d_model * layers
        a_pass = self.shape.tokens * a_position
        return held_passes(self.weights, self.pass_bytes, a_pass, self.steps)

    @property
    def pass_bytes(self) -> int:
        """What a pass keeps at least until it is done."""
        vectors = PASS_VECTORS * self.sizes.layout.n_layers * self.shape.tokens
        return vectors * self.sizes.d_model * self.shape.dtype.itemsize

    def lasting(self) -> dict[str, int]:
        """What is kept from the first step to the end."""
        sizes, shape, n_passes = self.sizes, self.shape, self.n_passes
        layers, d, tokens = sizes.layout.n_layers, sizes.d_model, shape.tokens
        sources, readers = sizes.layout.shape
        item, matrix = shape.dtype.itemsize, shape.batch * sources * readers
        n_gradients = layers + self.audited * (n_passes - 1)
        turned = sizes.layout.n_heads + sizes.layout.n_kv_heads if sizes.rotary else 0
        # In float32 those of the last pass are what it keeps anyway.
        norms = n_passes - 1 if item == _FLOAT else n_passes
        return {
            "source deltas": source_bytes(sizes, shape),
            "ends of the path": 3 * item * tokens * d,
            "projected gradients": _FLOAT * tokens * n_gradients * sizes.ports * sizes.d_head,
            "MLP and logits gradients": _FLOAT * tokens * (n_gradients + n_passes) * d,
            "norm corrections": _FLOAT * tokens * n_passes * layers * sizes.ports,
            "inputs of norms": item * tokens * norms * layers * d,
            # The rest of the projections' outputs is what attention keeps anyway. Layers that are
            # run again keep theirs one at a time.
            "q and k before rotation": item
            * tokens
            * (1 if self.recompute else layers)
            * (turned * sizes.d_head),
            "scores": _FLOAT * matrix,
            "audited scores": _FLOAT
            * (shape.batch * self.steps * sources)
            * (self.audited * (sizes.ports + 1) + 1),
        }

    def meeting(self) -> dict[str, int]:
        """What sources against readers needs on top: of a few passes, or of all, whichever more."""
        audited = self.audited * (self.sizes.ports + 1) + 1
        ways = (self._meeting(audited, self.n_passes, self.sizes.layout.n_layers), self._of_all())
        return max(ways, key=lambda parts: sum(parts.values()))

    def _of_all(self) -> dict[str, int]:
        return self._meeting(self.sizes.layout.shape[1], 1, 0)

    def _meeting(self, readers: int, n_passes: int, norms: int) -> dict[str, int]:
        """readers: that G is widened of. norms: whose inputs are stacked."""
        sizes, shape, d = self.sizes, self.shape, self.sizes.d_model
        sources, layer = sizes.layout.shape[0], sizes.ports + 1
        most = max(1, READERS_AT_ONCE // n_passes)
        width = n_passes * min(readers, -(-most // layer) * layer)
        room = chunk_bytes(self.weights, 0 if self.recompute else self.pass_bytes, shape.device)
        size = max(1, room // (_FLOAT * d * (sources + width + 2 * n_passes * norms)))
        length = shape.length - shape.shared
        together = min(shape.batch, size // length)
        tokens = together * length if together else size
        accumulators = 2 * _FLOAT * n_passes * shape.batch * sources * sizes.layout.shape[1]
        return {
            "widened sources": _FLOAT * sources * tokens * d,
            "widened gradients": _FLOAT * width * tokens * d,
            "reader weights of a layer": _FLOAT * sizes.ports * sizes.d_head * d,
            "sources along xhat": _FLOAT * n_passes * norms * (sources + 2 * d) * tokens,
            "scores of a meeting": accumulators,
            "inputs of norms": shape.dtype.itemsize * shape.tokens * sizes.layout.n_layers * d,
        }


def softer_attention(sizes: Sizes, shape: Shape, *, eager: bool) -> int:
    """What attention's second run keeps for the backward pass: outputs, and weights (no SDPA)."""
    heads, item = sizes.layout.n_layers * sizes.layout.n_heads, shape.dtype.itemsize
    output_bytes = item * heads * shape.tokens * sizes.d_head
    return output_bytes + (_FLOAT * heads * shape.tokens * shape.length if eager else 0)


def executor_buffers(sizes: Sizes, shape: Shape) -> dict[str, int]:
    """What running circuits keeps: the corrupted run, the live one, and widened differences."""
    layers, d, tokens = sizes.layout.n_layers, sizes.d_model, shape.tokens
    item = shape.dtype.itemsize
    stream = item * tokens * d
    fitting = max(1, input_bytes(shape.device) // stream)
    block, normed = min(INPUTS_AT_ONCE, fitting), min(sizes.ports, fitting)
    return {
        "sources, corrupted and live": 2 * source_bytes(sizes, shape),
        "corrupted readers": item * tokens * (layers * (2 * d + sizes.ports * sizes.d_head) + d),
        "widened differences": sizes.layout.shape[0] * stream,
        "inputs of readers at once": (block + 2 * normed) * stream,
    }


def cutting_buffers(sizes: Sizes, shape: Shape) -> dict[str, int]:
    """What is kept while edges are cut one by one: two whole runs, and what sources changed."""
    layout, d, tokens, item = sizes.layout, sizes.d_model, shape.tokens, shape.dtype.itemsize
    rows, stream = layout.shape[0], item * tokens * d
    return {
        "sources, corrupted and clean": 2 * source_bytes(sizes, shape),
        "corrupted readers": stream * (2 * layout.n_layers + 1)
        + item * tokens * layout.n_layers * sizes.ports * sizes.d_head,
        "outputs of layers": 2 * layout.n_layers * stream,
        "what sources changed": stream * (rows if rows * tokens * d <= HELD_DIFFERENCES else 1),
        "scores": _FLOAT * shape.batch * rows * layout.shape[1],
    }


def cut_readers(sizes: Sizes, shape: Shape) -> int:
    """Bytes of what readers are given, in all runs together that each cut an edge into one of them:
    of a layer's heads, where the first layers' see so few sources that a run has many readers.
    """
    layout, item, d = sizes.layout, shape.dtype.itemsize, sizes.d_model
    most = side_by_side(shape.batch * shape.length)
    # As runs are counted, what clean and corrupted prompts share is counted too.
    room = readers_side_by_side(most * item * shape.batch * shape.length * d, shape.device)
    n_inputs = 0
    for layer in range(min(2, layout.n_layers)):
        seen = 1 + layer * (layout.n_heads + 1)
        runs = min(most, sizes.ports * seen)
        readers = min(room, layout.n_heads, -(-runs // seen) + (seen > 1))
        n_inputs = max(n_inputs, readers * runs)
    return 3 * n_inputs * item * shape.tokens * d  # summed, and through their norm


def gate_buffers(sizes: Sizes, shape: Shape) -> dict[str, int]:
    """What a step with gates keeps: the run without gates, what sources wrote against it and what
    comes back to them, and of every reader its input before and behind its norm.
    """
    runs = executor_buffers(sizes, shape)
    sources, readers = sizes.layout.shape
    stream = shape.dtype.itemsize * shape.tokens * sizes.d_model
    return {
        "sources without gates": source_bytes(sizes, shape),
        "readers without gates": runs["corrupted readers"],
        "widened differences, and their gradient": 2 * sources * stream,
        "inputs of readers": 2 * readers * stream,
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
