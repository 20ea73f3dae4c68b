"""How many pairs to run at a time, and whether layers are run again, where nobody says."""

from __future__ import annotations

import json
import logging
from functools import lru_cache

from transformers import AutoConfig

from circuits.errors import CircuitsError
from circuits.models import HookedModel
from circuits.models.quantised import KINDS, kept_as
from circuits.options.choices import Quantisation
from circuits.planning.bound import obviously_fits
from circuits.planning.counter import storages
from circuits.planning.device import total_memory
from circuits.planning.jobs import CostModel, Job
from circuits.planning.passes import Shape
from circuits.planning.plan import largest_batch
from circuits.runtime.batching import usual_batch_size
from circuits.runtime.notices import say
from tasks.pairs import PairSet

_log = logging.getLogger(__name__)
_SHARE = {"cpu": 0.5, "cuda": 0.8}


def choose_batch_size(
    model: HookedModel,
    pairs: PairSet,
    cost: CostModel,
    steps: int | str | None = None,
    *,
    recompute: bool = False,
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
        recompute: whether layers are run again in backward passes.

    Returns:
        Pairs at a time, at least 1.
    """
    longest = max(len(pair) for pair in pairs)
    usual = usual_batch_size(longest, len(pairs), model.device.type, cost.tokens)
    if usual == 1:
        return 1
    points = None if isinstance(steps, str) else steps
    job = Job(_shape(model, pairs, usual), cost, points, usual, recompute, _kept(model))
    return max(1, _fitting(model, job))


def choose_recomputation(
    model: HookedModel, pairs: PairSet, cost: CostModel, wanted: bool | None = None
) -> bool:
    """Whether layers are run again in backward passes, by the plan where nobody says.

    By itself only where not even one pair fits without it, in the memory that `choose_batch_size`
    looks at; a line is logged then.

    Args:
        model: what is run.
        pairs: what it is run on.
        cost: of what is done.
        wanted: what somebody said; None asks the plan.

    Returns:
        Whether to recompute.

    Raises:
        CircuitsError: where it is wanted of what has no backward pass.
    """
    if wanted is not None:
        if wanted:
            cost.require_recomputable()
        return wanted
    if not cost.recomputes:
        return False
    job = Job(_shape(model, pairs, 1), cost, quantize=_kept(model))
    if _fitting(model, job):
        return False
    say(
        f"not one pair of {job.shape.length} tokens fits as it is, so layers are run again in the "
        "backward pass, which takes about a third more time and gives the same scores (recompute)"
    )
    return True


def _shape(model: HookedModel, pairs: PairSet, batch: int) -> Shape:
    """The largest batch's, with nothing known of what prompts share."""
    lengths = {len(pair) for pair in pairs}
    return Shape(
        batch,
        max(lengths),
        max(len(pair.answer) for pair in pairs),
        model.hf.dtype,
        model.device.type,
        padded=batch > 1 and len(lengths) > 1,
    )


def _kept(model: HookedModel) -> Quantisation | None:
    """How the weights are kept, where the plan knows that way."""
    kind = kept_as(model.hf)
    return next((quantisation for quantisation in KINDS if quantisation == kind), None)


def _fitting(model: HookedModel, job: Job) -> int:
    """The job's batch, or as much of it as the device holds; all of it where that is not known."""
    loaded = sum(storages([*model.hf.parameters(), *model.hf.buffers()]).values())
    kind = model.device.type
    try:
        left = int(_SHARE.get(kind, 0.5) * total_memory(model.device))
        left -= job.cost.models * loaded
        if obviously_fits(model.hf, job, loaded, left):
            return job.n
        return _largest(model.hf.config.to_json_string(use_diff=False), job, left)
    except CircuitsError as error:
        _log.debug("batches of the usual size, %d pairs: %s", job.n, error)
        return job.n


@lru_cache(maxsize=64)
def _largest(config: str, job: Job, left: int) -> int:
    """The job's batch, or as much of it as `left` bytes hold."""
    try:
        model_config = AutoConfig.for_model(**json.loads(config))
    except (ValueError, TypeError) as error:
        raise CircuitsError(f"no configuration of a known model ({error})") from error
    return largest_batch(model_config, job, left)
