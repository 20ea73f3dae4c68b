"""How many pairs to run at a time, where nobody says."""

from __future__ import annotations

import json
import logging
from functools import lru_cache

from transformers import AutoConfig

from circuits.errors import CircuitsError
from circuits.models import HookedModel
from circuits.planning.bound import obviously_fits
from circuits.planning.counter import storages
from circuits.planning.device import total_memory
from circuits.planning.jobs import CostModel, Job
from circuits.planning.passes import Shape
from circuits.planning.plan import largest_batch
from circuits.runtime.batching import usual_batch_size
from circuits.runtime.limits import STEPS_AT_ONCE
from tasks.pairs import PairSet

_log = logging.getLogger(__name__)
_SHARE = {"cpu": 0.5, "cuda": 0.8}


def choose_batch_size(
    model: HookedModel, pairs: PairSet, cost: CostModel, steps: int | str | None = None
) -> int:
    """Pairs at a time: as many as speed has a use for, or as fit where those do not.

    The plan is compared with a fixed share of the memory that the device has, half of a CPU's and
    80 % of a GPU's, and not with what is free just now: batches of another size round differently,
    and the same input on the same machine must give a bit-identical result. What does not fit after
    all, `over_batches` halves. Models and devices that cannot be planned (encoder-decoders) get the
    usual size.

    Args:
        model: what is run.
        pairs: what it is run on.
        cost: of what is done.
        steps: as an attribution method has them.

    Returns:
        Pairs at a time, at least 1.
    """
    kind, lengths = model.device.type, {len(pair) for pair in pairs}
    usual = usual_batch_size(max(lengths), len(pairs), kind, cost.tokens)
    if usual == 1:
        return 1
    shape = Shape(
        usual,
        max(lengths),
        max(len(pair.answer) for pair in pairs),
        model.hf.dtype,
        kind,
        padded=len(lengths) > 1,
    )
    loaded = sum(storages([*model.hf.parameters(), *model.hf.buffers()]).values())
    try:
        left = int(_SHARE.get(kind, 0.5) * total_memory(model.device))
        left -= cost.models * loaded
        points = STEPS_AT_ONCE if isinstance(steps, str) else steps
        job = Job(shape, cost, points, n=usual)
        if obviously_fits(model.hf, job, loaded, left):
            return usual
        config = model.hf.config.to_json_string(use_diff=False)
        return _fitting(config, job, left)
    except CircuitsError as error:
        _log.debug("batches of the usual size, %d pairs: %s", usual, error)
        return usual


@lru_cache(maxsize=64)
def _fitting(config: str, job: Job, left: int) -> int:
    """The job's batch, or as much of it as `left` bytes hold; at least 1."""
    try:
        known = AutoConfig.for_model(**json.loads(config))
    except (ValueError, TypeError) as error:
        raise CircuitsError(f"no configuration of a known model ({error})") from error
    return max(1, largest_batch(known, job, left))
