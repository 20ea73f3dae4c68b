"""How far apart the attention of several models lies, on the same text.

KL(model || base) in nats, mean over a document's positions that are not padding, over heads, then
over documents: the divergence that `diff_models` gives, without all else that it measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.model_diff.both_models import BothModels
from circuits.model_diff.documents import require_same_shape
from circuits.model_diff.head_types import HeadTypeKeys
from circuits.model_diff.paired_forward import diff_batch
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.planning import choose_batch_size
from circuits.planning.costs import DIFF
from circuits.runtime.batching import over_batches
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, Estimates, mean_estimates
from tasks.pairs import PairBatch, PairSet


@dataclass(frozen=True)
class AttentionChange:
    """How far one model's attention lies from another's.

    Attributes:
        model: its name.
        base: name of the other.
        kl: KL(model || base), nats, mean over all heads.
        kl_by_layer: the mean over each layer's heads.
    """

    model: str
    base: str
    kl: Estimate
    kl_by_layer: Estimates


def attention_changes(
    models: Mapping[str, Callable[[], HookedModel]],
    bases: Sequence[str],
    pairs: PairSet,
    *,
    n_resamples: int = 1000,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> tuple[AttentionChange, ...]:
    """Set every model beside each of some, by what their heads attend to in the clean prompts.

    Args:
        models: by name, of one shape; each is loaded when its turn comes, and two at most are held.
        bases: names of those that the others are set beside, no two twice: a base is not set beside
            one that is named before it.
        pairs: whose clean prompts are read, at least two.
        n_resamples: bootstrap resamples of the prompts.
        options: batches, seed and progress; the memory plan chooses the batch size by default.
        resume: keeps what was read until all is done.

    Returns:
        A change for each two models, base by base.

    Raises:
        CircuitsError: for models of different shapes or attention windows, and encoder-decoders.
    """
    options, resume = options or RunOptions(), resume or Pieces()
    means = partial(mean_estimates, n_resamples=n_resamples, seed=options.seed)
    changes = []
    for index, name in enumerate(bases):
        base = models[name]()
        for other in (model for model in models if model not in bases[: index + 1]):
            kl = _divergences(models[other](), base, pairs, options, resume)
            changes.append(
                AttentionChange(
                    model=other,
                    base=name,
                    kl=means(kl.mean(dim=(1, 2))[:, None])[0],
                    kl_by_layer=means(kl.mean(dim=2)),
                )
            )
    return tuple(changes)


def _divergences(
    model: HookedModel, base: HookedModel, pairs: PairSet, options: RunOptions, resume: Pieces
) -> Float[Tensor, "doc layer head"]:
    """KL(model || base) of every head on every document."""
    require_same_shape(model, base)
    layout = model.layout
    kl = torch.zeros(len(pairs), layout.n_layers, layout.n_heads, dtype=torch.float64)
    size = options.batch_size or choose_batch_size(model, pairs, DIFF)
    piece = resume.tensors()
    identity = {
        "attention of": [[m.fingerprint, str(m.hf.dtype)] for m in (model, base)],
        "pairs": pairs.fingerprint,
        "batch size": size,
    }
    piece.restore(len(pairs), identity, {"kl": kl})
    for batch, values in over_batches(
        BothModels(model, base),
        pairs,
        _attention_of,
        batch_size=size,
        done=piece.done,
        progress=f"attention of {base.name} and {model.name}" if options.progress else None,
        engine=options.engine,
    ):
        kl[batch.index.cpu()] = values.cpu().double()
        piece.keep(batch.index)
    return kl


def _attention_of(both: BothModels, batch: PairBatch) -> Float[Tensor, "batch layer head"]:
    """The work on a batch of documents."""
    return diff_batch(both.model, both.base, batch, HeadTypeKeys.of_text(batch, {})).values["kl"]
