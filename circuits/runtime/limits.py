"""How much the engine, the executor and the diff of models hold at once.

Each bounds memory, and none changes a result. They stand below both who works within them and
`planning`, which foretells what they come to.
"""

CHUNK_BYTES, CHUNK_SHARE, CHUNK_SHARE_MOST = 16 * 2**20, 1 / 16, 1 / 4
CHUNK_BYTES_DEVICE, CHUNK_SHARE_DEVICE = 2**27, 1 / 8
"""Widened source outputs and gradients held at a time: so much, or a share of the model's own
bytes. They are held between passes, when what a pass kept is free again."""
HELD_BYTES, HELD_SHARE = 2**24, 1 / 4
"""What passes leave behind for sources to meet at once: so much, or a share of what the model's
weights and a pass take."""
PASS_VECTORS = 12
"""Of a position and layer, at least so many vectors of d_model numbers a pass keeps; between passes
there is room for as many."""
READERS_AT_ONCE = 128  # so many, or a few more, wait for each other
FLOW_CHUNK_BYTES = 32 * 2**20  # of widened source outputs, in information-flow routes
INPUT_BYTES, INPUT_BYTES_DEVICE, INPUTS_AT_ONCE = 2**26, 2**28, 64
"""Readers' inputs that the executor makes at a time: bytes, and how many at most."""
COPIES, COPIED_TOKENS = 32, 4096
"""Circuits that run side by side on one batch: so many, or as many as make so many positions."""
HELD_DIFFERENCES = 2**27
"""Numbers that a batch's runs side by side may keep of what each source changed, widened: half a GB
in float32."""
HELD_DIFFERENCES_LIVE = 2**24
"""The same of one prompt pair in the explorer, where many windows each hold a pair: 64 MB."""
LIVE_PAIRS_BYTES = 2**31
"""What all prompt pairs together may keep in the explorer, apart from the one in use: 2 GiB. A pair
of 20 tokens of a model of 135 million parameters takes about 30 MiB."""
LIVE_TASK_BYTES = 2**30
"""What may be kept there of the runs of the task's pairs, on which circuits are measured."""
AUDITED = 4  # layers whose scores are taken point by point, for the estimate of the error
PATTERN_BYTES_CPU, PATTERN_BYTES_DEVICE = 2**21, 2**28
"""Bytes of one attention pattern that two models are compared by at a time: about a CPU's cache."""
PATTERN_READS = 31  # times that model_diff/paired_forward.py reads or writes one, of both models


def chunk_bytes(model_bytes: int, pass_bytes: int, device: str) -> int:
    """How much of widened source outputs and gradients is held at a time.

    Args:
        model_bytes: of the model's weights.
        pass_bytes: that one pass keeps at least and has given back by then.
        device: "cpu", or the kind of an accelerator.

    Returns:
        Bytes.
    """
    if device == "cpu":
        # Larger blocks turn readers' weights less often, and fresh memory is dear on a CPU.
        given_back = min(pass_bytes, int(CHUNK_SHARE_MOST * model_bytes))
        return max(CHUNK_BYTES, int(CHUNK_SHARE * model_bytes), given_back)
    return max(CHUNK_BYTES_DEVICE, int(CHUNK_SHARE_DEVICE * model_bytes), pass_bytes)


def held_passes(model_bytes: int, pass_bytes: int, left: int, points: int) -> int:
    """How many passes go by before what they left behind meets the sources.

    Args:
        model_bytes: of the model's weights.
        pass_bytes: that one pass keeps at least until it is done.
        left: bytes that one pass leaves behind.
        points: passes in all.

    Returns:
        At least one.
    """
    room = max(HELD_BYTES, int(HELD_SHARE * (model_bytes + pass_bytes)))
    return max(1, min(points, room // max(1, left)))


def input_bytes(device: str) -> int:
    """How much of readers' inputs the executor makes at a time.

    Args:
        device: "cpu", or the kind of an accelerator.

    Returns:
        Bytes.
    """
    return INPUT_BYTES if device == "cpu" else INPUT_BYTES_DEVICE


def side_by_side(tokens: int) -> int:
    """How many circuits are worth running at once on one batch.

    Args:
        tokens: positions of the batch, padding included.

    Returns:
        At least one.
    """
    return max(1, min(COPIES, COPIED_TOKENS // tokens))


def readers_side_by_side(stream: int, device: str) -> int:
    """How many readers may lack edges in runs side by side that each cut one.

    Args:
        stream: bytes of one reader's input in all runs together.
        device: "cpu", or the kind of an accelerator.

    Returns:
        At least one.
    """
    return max(1, input_bytes(device) // stream)
