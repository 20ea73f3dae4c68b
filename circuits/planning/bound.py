"""Whether a job obviously fits, without a trace of the model's passes.

A trace takes as long as several small batches. Where several times what a pass can keep alive is
there, the plan's exact number decides nothing.
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from circuits.models.quantised import QuantisedLinear
from circuits.planning.jobs import Case, Job
from circuits.planning.passes import Pass, Shape, TracedPasses
from circuits.planning.plan import with_slack
from circuits.planning.sizes import Sizes
from circuits.planning.spread import Parts

_TIMES = 2  # what goes into and comes out of linear maps, against all that lives at a time
_PATTERNS = 6  # copies of a layer's attention pattern, where one is made
_LOGITS = 8  # copies of the logits at answer positions: float32, their softmax, its gradient
_COPIES = 3  # of a quantised matrix that is turned back: in float32, its dtype, the input's
_FLOAT = 4


def obviously_fits(model: PreTrainedModel, job: Job, weights: int, available: int) -> bool:
    """Whether the job's phases stay within memory whatever exactly its passes keep.

    Args:
        model: the loaded model.
        job: what is to be done.
        weights: bytes of the loaded model.
        available: bytes that there are.

    Returns:
        True where it fits for certain; False says nothing.
    """
    if job.cost.trains:
        return False
    most = _most(model, job.shape)
    passes = TracedPasses(
        parameters=0,
        weights=weights,
        trained=0,
        eager=getattr(model.config, "_attn_implementation", None) != "sdpa",
        forward=Pass(peak=most),
        step=Pass(peak=most),
        parts=Parts(),
    )
    phases = job.cost.phases(Case(job, Sizes.of(model.config), passes))
    fullest = max(sum(parts.values()) for parts in phases.values())
    return with_slack(fullest, job.shape.device) <= available


def _most(model: PreTrainedModel, shape: Shape) -> int:
    """More bytes than a forward and backward pass keeps alive at a time beside the weights."""
    sizes = Sizes.of(model.config)
    layers, heads = sizes.layout.n_layers, sizes.layout.n_heads
    unembedding = model.get_output_embeddings()
    linear = [
        module
        for module in model.modules()
        if isinstance(module, (nn.Linear, Conv1D, QuantisedLinear)) and module is not unembedding
    ]
    features = 2 * sizes.d_model + sum(
        sum(module.shape if isinstance(module, QuantisedLinear) else module.weight.shape)
        for module in linear
    )
    plain = [module.shape for module in linear if isinstance(module, QuantisedLinear)]
    turned_back = _COPIES * max((rows * columns for rows, columns in plain), default=0)
    item, positions = max(shape.dtype.itemsize, _FLOAT), shape.batch * shape.length
    patterns = _PATTERNS * layers * heads * positions * shape.length
    logits = _LOGITS * shape.batch * shape.answer_positions * sizes.d_vocab
    return item * (_TIMES * positions * features + patterns + logits + turned_back)
