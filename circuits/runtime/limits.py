"""How much the engine, the executor and the diff of models hold at once.

Each bounds memory, and none changes a result. They stand below both who works within them and
`planning`, which foretells what they come to.
"""

CHUNK_BYTES, CHUNK_SHARE = 16 * 2**20, 1 / 16
"""Widened source outputs and gradients held at a time: a share of the model's own bytes."""
READERS_AT_ONCE = 128  # so many, or a few more, wait for each other
FLOW_CHUNK_BYTES = 32 * 2**20  # of widened source outputs, in information-flow routes
INPUT_BYTES, INPUTS_AT_ONCE = 2**26, 64
"""Readers' inputs that the executor makes at a time: bytes, and how many at most."""
AUDITED = 4  # layers whose scores are taken point by point, for the estimate of the error
PATTERN_BYTES_CPU, PATTERN_BYTES_DEVICE = 2**21, 2**28
"""Bytes of one attention pattern that two models are compared by at a time: about a CPU's cache."""
PATTERN_READS = 31  # times that model_diff/paired_forward.py reads or writes one, of both models
