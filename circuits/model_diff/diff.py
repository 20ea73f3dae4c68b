"""Attention, hidden states and neurons of two models on the same text.

Every figure is a mean over the positions of a document that are not padding, then over documents,
with a 95 % interval over documents. Layer l's hidden state is the residual stream after block l;
its update is what the block adds. KL and entropy after Mishra 2025 (arXiv 2505.17073).

How much a layer changed, by criterion (the change of the hidden state itself only accumulates with
depth and would name the last layers):

| criterion | a layer's value |
|---|---|
| attention-kl | mean over its heads of KL(model || base), nats |
| entropy | mean over its heads of |mean change of entropy|, nats |
| hidden-state | relative change of the block's own update |
| edges | sum of |change of mean edge score|, half to the source's layer, half to the reader's |
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, get_args

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.importance import (
    CriticalLayers,
    LayerImportance,
    ResampledChanges,
    compare_criteria,
)
from circuits.model_diff.documents import DocumentDiffs, diff_documents
from circuits.model_diff.head_types import HeadType, KeyPositions, head_name
from circuits.model_diff.hidden import RepresentationTrajectory
from circuits.model_diff.neurons import NeuronChanges
from circuits.models import HookedModel
from circuits.options.choices import LayerCriterion
from circuits.options.run import RunOptions
from circuits.runtime.display import Plotted
from circuits.runtime.result_file import Record, ResultFile
from circuits.runtime.resume import Pieces
from circuits.statistics import resample_weights
from circuits.statistics.estimate import Estimate, Estimates, mean_estimates
from tasks.pairs import PairSet

if TYPE_CHECKING:
    import pandas as pd


CRITERIA: tuple[LayerCriterion, ...] = get_args(LayerCriterion)
EDGES = "edges"


class ModelDiff(Plotted, Record):
    """How a model's insides differ from its base's.

    model, base: what the two are called. identical: neither attention nor hidden states differ
        beyond float32 rounding; same_attention: no attention pattern does.
    kl: KL(model || base) of each head's attention, nats, by layer and head; kl_by_layer: the mean
        over a layer's heads.
    entropy, entropy_base: of each head's attention, nats. entropy_change: model less base, negative
        where attention grew sharper; mean_entropy_change: over all heads.
    sharpened_fraction: of the heads, those whose mean entropy is lower in the model.
    cosine: of the two hidden states, by layer. activation, activation_base: mean |hidden state|.
    stream_change, update_change: ||model - base|| / ||base|| of the hidden state after each block,
        which carries every earlier change along, and of the block's own update.
    head_types: what heads attend to, by type.
    neurons: None where MLPs have none that can be seen.
    critical_layers: layers by each criterion, and whether the criteria agree.
    """

    model: str
    base: str
    n_documents: int
    n_resamples: int
    seed: int
    identical: bool
    same_attention: bool
    kl: Estimates
    kl_by_layer: Estimates
    entropy: Estimates
    entropy_base: Estimates
    entropy_change: Estimates
    mean_entropy_change: Estimate
    sharpened_fraction: Estimate
    cosine: Estimates
    activation: Estimates
    activation_base: Estimates
    stream_change: Estimates
    update_change: Estimates
    head_types: tuple[HeadType, ...]
    neurons: NeuronChanges | None
    critical_layers: CriticalLayers

    def _facts(self) -> dict[str, str]:
        name, kl = self.heads_by_kl[0]
        return {
            "models": f"{self.model} against {self.base}",
            "documents": str(self.n_documents),
            "attention": "the same" if self.same_attention else f"most apart at {name}, KL {kl}",
            "heads that grew sharper": str(self.sharpened_fraction),
        }

    def to_frame(self) -> pd.DataFrame:
        """Every head, a row each, the one whose attention is most apart first.

        Returns:
            Columns head, kl, kl_low, kl_high (nats), entropy, entropy_base (nats).
        """
        import pandas as pd

        layers, heads = self.kl.value.shape
        return pd.DataFrame(
            {
                "head": head_name(index, heads),
                "kl": float(self.kl.value.flatten()[index]),
                "kl_low": float(self.kl.low.flatten()[index]),
                "kl_high": float(self.kl.high.flatten()[index]),
                "entropy": float(self.entropy.value.flatten()[index]),
                "entropy_base": float(self.entropy_base.value.flatten()[index]),
            }
            for index in range(layers * heads)
        ).sort_values("kl", ascending=False, ignore_index=True)

    @property
    def n_layers(self) -> int:
        """Layers of either model."""
        return len(self.kl_by_layer)

    @property
    def heads_by_kl(self) -> list[tuple[str, Estimate]]:
        """Every head with its divergence, largest first."""
        n_heads = self.kl.value.shape[1]
        order = self.kl.value.flatten().argsort(descending=True, stable=True).tolist()
        return [(head_name(index, n_heads), self.kl[divmod(index, n_heads)]) for index in order]

    def layer_importance(self, criterion: str) -> LayerImportance:
        """How much fine-tuning changed each layer, to choose layers by.

        Args:
            criterion: "attention-kl", "entropy" or "hidden-state"; "edges" where edge scores were
                given.

        Returns:
            One number a layer, never negative.

        Raises:
            CircuitsError: for a criterion that the diff does not have.
        """
        return self.critical_layers.by(criterion).importance

    def head_type(self, name: str) -> HeadType:
        """What is known of one head type.

        Args:
            name: "previous-token", "induction", ... (see `head_types`), or a name of key positions.

        Returns:
            Its mass in both models, and the heads that are of it.

        Raises:
            CircuitsError: where fewer than two documents have a query of this type.
        """
        for head_type in self.head_types:
            if head_type.name == name:
                return head_type
        names = ", ".join(head_type.name for head_type in self.head_types)
        raise CircuitsError(f"no head type {name!r} was measured; known: {names}")

    def renamed(self, model: str, base: str) -> ModelDiff:
        """The same diff with other names of the two models, for words and figures.

        Args:
            model: the name of the model.
            base: the name of its base.

        Returns:
            A copy.
        """
        return self.model_copy(update={"model": model, "base": base})


class ModelDiffs(ResultFile):
    """What `model_diff.json` holds: diffs of pairs of models on the same documents.

    task, split: of the prompts. models: where each model is, by the name that it is called by.
    comparisons: the first is the one of the model that is asked about and its base.
    trajectory: of hidden states over checkpoints; None for a single model.
    """

    KIND: ClassVar[str] = "model-diff"

    task: str
    split: str
    models: dict[str, str]
    comparisons: tuple[ModelDiff, ...]
    trajectory: RepresentationTrajectory | None


def diff_models(
    model: HookedModel,
    base: HookedModel,
    pairs: PairSet,
    *,
    key_positions: KeyPositions | None = None,
    edges: ResampledChanges | None = None,
    n_resamples: int = 1000,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> ModelDiff:
    """Run both models on the clean prompts and compare what goes on inside.

    Args:
        model: the fine-tuned model.
        base: the model that it is compared with, of the same shape.
        pairs: whose clean prompts are read, at least two.
        key_positions: positions that heads may look for, by name and pair of the set
            (`tasks.text.key_positions` finds beginnings of sentences and paragraphs).
        edges: the change of edge scores by layer (`circuits.importance.edge_change`), as a fourth
            criterion.
        n_resamples: bootstrap resamples of the documents.
        options: batches, seed and progress. By default the memory plan chooses the batch size, of
            about a thousand tokens at most.
        resume: keeps what was read until the whole is done, in two pieces.

    Returns:
        Means over documents with their 95 % intervals; KL and entropy in nats, changes as model
        less base. The models are called by their own names; `ModelDiff.renamed` gives others.

    Raises:
        CircuitsError: for models of different shapes or attention windows, encoder-decoder models,
            fewer than two prompts, key positions of other prompts, and edges of other layers.
    """
    options = options or RunOptions()
    if edges is not None and len(edges.values) != model.layout.n_layers:
        raise CircuitsError(
            f"edge scores of {len(edges.values)} layers for a model of {model.layout.n_layers}"
        )
    documents = diff_documents(
        model, base, pairs, key_positions=key_positions, options=options, resume=resume
    )
    named = (model.name, base.name)
    return summarize(documents, named, edges=edges, n_resamples=n_resamples, seed=options.seed)


def summarize(
    documents: DocumentDiffs,
    names: tuple[str, str],
    *,
    edges: ResampledChanges | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> ModelDiff:
    """Means over documents with their intervals; arguments as of `diff_models`."""
    means = partial(mean_estimates, n_resamples=n_resamples, seed=seed)
    changes = layer_changes(documents, n_resamples=n_resamples, seed=seed)
    neurons, change = documents.neurons, documents.entropy_change
    return ModelDiff(
        model=names[0],
        base=names[1],
        n_documents=len(documents),
        n_resamples=n_resamples,
        seed=seed,
        identical=documents.identical,
        same_attention=documents.same_attention,
        kl=means(documents.kl),
        kl_by_layer=means(documents.kl.mean(dim=2)),
        entropy=means(documents.entropy),
        entropy_base=means(documents.entropy_base),
        entropy_change=means(change),
        mean_entropy_change=means(change.mean(dim=(1, 2))[:, None])[0],
        sharpened_fraction=_fraction_below_zero(change.flatten(1), n_resamples, seed),
        cosine=means(documents.cosine).clamped(-1.0, 1.0),
        activation=means(documents.activation),
        activation_base=means(documents.activation_base),
        stream_change=means(documents.stream_change),
        update_change=means(documents.update_change),
        head_types=tuple(
            masses.head_type(name, n_resamples=n_resamples, seed=seed)
            for name, masses in documents.head_masses.items()
        ),
        neurons=None if neurons is None else neurons.summary(),
        critical_layers=compare_criteria(
            changes if edges is None else {**changes, EDGES: edges}, seed=seed
        ),
    )


def layer_changes(
    documents: DocumentDiffs, *, n_resamples: int, seed: int
) -> dict[str, ResampledChanges]:
    """How much each layer changed by each of `CRITERIA`."""
    change = documents.entropy_change.double()

    def entropy(weights: Float[Tensor, "m doc"]) -> Float[Tensor, "m layer"]:
        means = weights @ change.flatten(1)
        n_layers = change.shape[1]
        return reduce(means.abs(), "m (layer head) -> m layer", "mean", layer=n_layers)

    of_means = partial(ResampledChanges.of_means, n_resamples=n_resamples, seed=seed)
    changes: dict[LayerCriterion, ResampledChanges] = {
        "attention-kl": of_means(documents.kl.mean(dim=2)),
        "entropy": ResampledChanges.of(entropy, len(documents), n_resamples=n_resamples, seed=seed),
        "hidden-state": of_means(documents.update_change),
    }
    return {name: changes[name] for name in CRITERIA}


def _fraction_below_zero(
    values: Float[Tensor, "doc column"], n_resamples: int, seed: int
) -> Estimate:
    """The fraction of columns whose mean is negative.

    The interval is of percentiles over resampled documents, since a fraction takes few values.
    """
    weights = resample_weights(len(values), n_resamples, seed=seed)
    fractions = (weights @ values.double() < 0).double().mean(dim=1)
    low, high = fractions.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    value = float((values.double().mean(dim=0) < 0).double().mean())
    return Estimate(value, low, high, len(values))
