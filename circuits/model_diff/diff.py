"""Attention, hidden states and neurons of two models on the same text.

Both models read the clean prompts, answers included as far as they are fed. Every figure is a mean
over the positions of a document that are not padding, then over documents. Kept are the
per-document values of each layer and head (documents are what intervals resample), and running sums
of the neurons. Layer l's hidden state is the residual stream after block l; its update is what the
block adds. KL and entropy after Mishra 2025 (arXiv 2505.17073).

Cost: one forward pass of each model without the unembedding, then each layer's attention of both is
made again from queries and keys, some queries at a time, for all that is read off it at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.model_diff import inside_words
from circuits.model_diff.averages import Averages, averages, share_below_zero
from circuits.model_diff.criteria import (
    CRITERIA,
    EDGES,
    CriticalLayers,
    LayerValues,
    critical_layers,
)
from circuits.model_diff.head_types import (
    REPEATED,
    SEQUENCES,
    HeadType,
    HeadTypeKeys,
    KeyPositions,
    RoleMasses,
    head_name,
)
from circuits.model_diff.neurons import NeuronChanges, NeuronSums
from circuits.model_diff.paired_forward import PER_HEAD, PER_LAYER, Reading, read
from circuits.models import HookedModel
from circuits.models.language import special_tokens
from circuits.planning import choose_batch_size
from circuits.planning.costs import DIFF
from circuits.runtime.batching import over_batches
from circuits.runtime.resume import PartialResults, Pieces
from circuits.statistics import generator
from tasks.pairs import PairBatch, PairSet, PromptPair


@dataclass(frozen=True)
class ModelDiff:
    """How a model's insides differ from another's, by document.

    name, against: the model (fine-tuned) and what it is held against (base).
    kl: KL(model || against) of attention, nats. entropy, entropy_base: of attention, nats.
    cosine: of the two hidden states. activation, activation_base: mean |hidden state|.
    stream_change, update_change: ||model - against|| / ||against|| of the hidden state after each
        block, which carries every earlier change along, and of the block's own update.
    roles: what heads attend to, by role. neurons: None where MLPs have none that can be seen.
    """

    name: str
    base: str
    kl: Float[Tensor, "doc layer head"]
    entropy: Float[Tensor, "doc layer head"]
    entropy_base: Float[Tensor, "doc layer head"]
    cosine: Float[Tensor, "doc layer"]
    activation: Float[Tensor, "doc layer"]
    activation_base: Float[Tensor, "doc layer"]
    stream_change: Float[Tensor, "doc layer"]
    update_change: Float[Tensor, "doc layer"]
    roles: dict[str, HeadType] = field(default_factory=dict)
    neurons: NeuronChanges | None = None
    n_resamples: int = 1000
    seed: int = 0

    def __len__(self) -> int:
        return len(self.kl)

    @property
    def identical(self) -> bool:
        """Whether neither attention nor hidden states differ beyond float32 rounding."""
        return bool(self.stream_change.max() <= 1e-5) and self.same_attention

    @property
    def same_attention(self) -> bool:
        """Whether no attention pattern differs beyond float32 rounding."""
        return bool(self.kl.max() <= 1e-6)

    @property
    def entropy_change(self) -> Float[Tensor, "doc layer head"]:
        """Model less against: negative where attention grew sharper."""
        return self.entropy - self.entropy_base

    @property
    def heads_by_kl(self) -> list[tuple[str, float]]:
        """Every head with its mean divergence, largest first."""
        means = self.kl.mean(dim=0)
        heads = means.shape[1]
        order = means.flatten().argsort(descending=True, stable=True).tolist()
        return [(head_name(place, heads), float(means.flatten()[place])) for place in order]

    def averages(self, values: Float[Tensor, " doc *shape"]) -> Averages:
        """Mean over documents of any per-document values, with its interval."""
        return averages(values, n_resamples=self.n_resamples, seed=self.seed)

    def similarity(self) -> Averages:
        """Mean cosine by layer, its interval held to [-1, 1]."""
        return self.averages(self.cosine).within(-1.0, 1.0)

    def falling_heads(self) -> Averages:
        """Share of heads whose mean entropy is lower in the model than in the other."""
        change = self.entropy_change.reshape(len(self), -1)
        return share_below_zero(change, n_resamples=self.n_resamples, seed=self.seed)

    def layer_importance(self, criterion: str) -> list[float]:
        """One number a layer, never negative: how much fine-tuning changed it.

        criterion: "attention-kl", "entropy" or "hidden-state"; see `criteria`.
        """
        values: list[float] = self._layer_values(criterion).value.tolist()
        return values

    def critical_layers(self, edges: LayerValues | None = None) -> CriticalLayers:
        """Layers by each criterion and how well the criteria agree.

        edges: the change of edge scores by layer, as a fourth criterion.
        """
        values: dict[str, LayerValues] = {name: self._layer_values(name) for name in CRITERIA}
        if edges is not None:
            if len(edges.value) != self.kl.shape[1]:
                raise CircuitsError(
                    f"edge scores of {len(edges.value)} layers for a model of {self.kl.shape[1]}"
                )
            values[EDGES] = edges
        return critical_layers(values, seed=self.seed)

    def _layer_values(self, criterion: str) -> LayerValues:
        drawn = {"n_resamples": self.n_resamples, "seed": self.seed}
        if criterion == "attention-kl":
            return LayerValues.of_means(self.kl.mean(dim=2), **drawn)
        if criterion == "entropy":
            return LayerValues.of(self._entropy_by_layer, len(self), **drawn)
        if criterion == "hidden-state":
            return LayerValues.of_means(self.update_change, **drawn)
        raise CircuitsError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")

    def _entropy_by_layer(self, weights: Float[Tensor, "m doc"]) -> Float[Tensor, "m layer"]:
        change = self.entropy_change.double()
        means = weights @ change.flatten(1)
        return means.abs().view(len(weights), *change.shape[1:]).mean(dim=2)

    def to_dict(self, edges: LayerValues | None = None) -> dict[str, Any]:
        """JSON form: means and intervals; per-document values stay in the object.

        edges: the change of edge scores by layer, to stand beside the other criteria.
        """
        measured = {
            name: self.averages(getattr(self, name)).to_dict()
            for name in (*PER_HEAD, "entropy_change", *PER_LAYER)
        }
        return {
            "model": self.name,
            "against": self.base,
            "documents": len(self),
            "n_resamples": self.n_resamples,
            "seed": self.seed,
            "identical": self.identical,
            **measured,
            "cosine": self.similarity().to_dict(),
            "kl_by_layer": self.averages(self.kl.mean(dim=2)).to_dict(),
            "falling_heads": self.falling_heads().to_dict(),
            "heads_by_kl": [{"head": head, "kl": value} for head, value in self.heads_by_kl],
            "importance": {name: self.layer_importance(name) for name in CRITERIA},
            "roles": {name: role.to_dict() for name, role in self.roles.items()},
            "neurons": None if self.neurons is None else self.neurons.to_dict(),
            "critical_layers": self.critical_layers(edges).to_dict(),
            "paragraph": inside_words.diff_models(self, self.critical_layers(edges)),
        }

    def paragraph(self) -> str:
        """The comparison in plain words."""
        return inside_words.diff_models(self, self.critical_layers())


def diff_models(
    model: HookedModel,
    base: HookedModel,
    pairs: PairSet,
    *,
    names: tuple[str, str] | None = None,
    key_positions: KeyPositions | None = None,
    batch_size: int | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: bool = False,
    resume: Pieces | None = None,
) -> ModelDiff:
    """Run both models on the clean prompts and compare what goes on inside.

    names: what to call the two in words and figures; their own names unless told.
    key_positions: positions that heads may look for, by name and pair of the set
        (`tasks.text.key_positions` finds beginnings of sentences and paragraphs).
    batch_size: documents at a time; None takes what the memory plan says, about a thousand tokens'
        worth at most (`planning.choose_batch_size`).
    unfinished: keeps what was read until the whole is done, in two pieces.
    Raises CircuitsError for models of different shapes, and for fewer than two documents.
    """
    require_same(model, base)
    pairs.validate(d_vocab=min(model.d_vocab, base.d_vocab), n_ctx=None)
    if len(pairs) < 2:
        raise CircuitsError("one document: intervals over documents need at least two")
    key_positions = key_positions or {}
    for name, places in key_positions.items():
        if len(places) != len(pairs):
            raise CircuitsError(
                f"key_positions {name!r}: positions for {len(places)} texts and {len(pairs)} pairs"
            )
    if batch_size is None:
        batch_size = choose_batch_size(model, pairs, DIFF)
    resume = resume or Pieces()
    documents, piece = _Documents(len(pairs)), resume.tensors()
    if piece.path is not None:
        same = {
            "models": [[each.fingerprint, str(each.hf.dtype)] for each in (model, base)],
            "pairs": pairs.fingerprint,
            "key_positions": {
                name: list(map(list, places)) for name, places in key_positions.items()
            },
            "batch size": batch_size,
        }
        documents.restore(piece.held(len(pairs), same))

    def work(batch: PairBatch) -> Reading:
        return read(model, base, batch, HeadTypeKeys.of_text(batch, key_positions))

    for batch, reading in over_batches(
        model,
        pairs,
        work,
        batch_size=batch_size,
        done=piece.done if len(piece.done) else None,
        progress=f"{base.name} and {model.name}" if progress else None,
    ):
        if piece.path is None:
            documents.add(batch, reading)
            continue
        with piece.taking(batch.index):
            documents.add(batch, reading)
            piece.hold(documents.state())
    found = documents.finish(n_resamples, seed)
    found["roles"] |= induction(
        model, base, n_resamples=n_resamples, seed=seed, piece=resume.tensors()
    )
    return ModelDiff(
        *(names or (model.name, base.name)), **found, n_resamples=n_resamples, seed=seed
    )


class _Documents:
    """What is kept of the documents as batches bring them in."""

    def __init__(self, count: int) -> None:
        self._values: dict[str, Tensor] = {}
        self._count = count
        self._masses = RoleMasses(count)
        self._neurons: NeuronSums | None = NeuronSums(count)

    def add(self, batch: PairBatch, reading: Reading) -> None:
        for name, values in reading.values.items():
            if name not in self._values:
                self._values[name] = values.new_zeros(self._count, *values.shape[1:], device="cpu")
            self._values[name][batch.index.cpu()] = values.cpu()
        self._masses.add(reading.keys, batch.index, reading.mass, reading.mass_base)
        if reading.neurons is None:
            self._neurons = None
        elif self._neurons is not None:
            self._neurons.add(batch.index, *reading.neurons)

    def state(self) -> dict[str, Tensor]:
        """All that was taken in, by name."""
        neurons = {} if self._neurons is None else self._neurons.state()
        values = {f"values.{name}": tensor for name, tensor in self._values.items()}
        return {**values, **self._masses.state(), **neurons}

    def restore(self, held: dict[str, Tensor]) -> None:
        """Take in what `state` gave, if anything."""
        if not held:
            return
        self._masses.restore(held)
        if self._neurons is not None and not self._neurons.restore(held):
            self._neurons = None
        own = {name: tensor for name, tensor in held.items() if name.startswith("values.")}
        self._values = {name.removeprefix("values."): tensor for name, tensor in own.items()}

    def finish(self, n_resamples: int, seed: int) -> dict[str, Any]:
        return {
            **self._values,
            "roles": self._masses.roles(n_resamples=n_resamples, seed=seed),
            "neurons": None if self._neurons is None else self._neurons.changes(),
        }


def induction(
    model: HookedModel, base: HookedModel, *, n_resamples: int, seed: int, piece: PartialResults
) -> dict[str, HeadType]:
    """The induction roles of every head, on random tokens that come twice."""
    special, rows = special_tokens(model.hf.config), min(model.d_vocab, base.d_vocab)
    usual = torch.tensor([token for token in range(rows) if token not in special])
    length = min(REPEATED, len(usual), (model.n_ctx or 2 * REPEATED) // 2)
    draw = generator(seed)
    drawn = [usual[torch.randperm(len(usual), generator=draw)[:length]] for _ in range(SEQUENCES)]
    pairs = PairSet(
        tuple(
            PromptPair(
                tuple(tokens.repeat(2).tolist()),
                tuple(tokens.flip(0).repeat(2).tolist()),
                ((int(tokens[0]),),),
                source="random tokens",
            )
            for tokens in drawn
        )
    )
    masses = RoleMasses(SEQUENCES, "random sequences")

    def work(batch: PairBatch) -> Reading:
        return read(model, base, batch, HeadTypeKeys.of_repeated(batch))

    if piece.path is not None:
        both = [[each.fingerprint, str(each.hf.dtype)] for each in (model, base)]
        masses.restore(piece.held(SEQUENCES, {"models": both, "pairs": pairs.fingerprint}))
    done = piece.done if len(piece.done) else None
    for batch, reading in over_batches(model, pairs, work, done=done):
        masses.add(reading.keys, batch.index, reading.mass, reading.mass_base)
        piece.hold(masses.state())
        if piece.path is not None:
            piece.keep(batch.index)
    piece.write()
    return masses.roles(n_resamples=n_resamples, seed=seed)


def require_same(model: HookedModel, base: HookedModel) -> None:
    """Raise CircuitsError, with both shapes, unless the models are of one shape.

    One may have more tokens than the other, added or for padding, where the others are the same:
    nothing here reads their logits.
    """
    apart = model.d_vocab != base.d_vocab and not _share_tokens(model, base)
    one, other = (
        f"{each.layout.summary}, {each.hf.config.get_text_config().hidden_size} wide"
        + (f", {each.d_vocab} tokens" if apart else "")
        for each in (model, base)
    )
    if model.layout != base.layout or one != other:
        raise CircuitsError(
            f"{model.name} and {base.name} are models of different shapes: {one}; and {other}"
        )


def _share_tokens(model: HookedModel, base: HookedModel) -> bool:
    """Whether the tokens that both models have rows for are the same ones, where it can be told."""
    try:
        words = [each.tokenizer.get_vocab() for each in (model, base)]
    except CircuitsError:
        return True  # ready token ids
    rows = min(model.d_vocab, base.d_vocab)
    one, other = ({token: i for token, i in each.items() if i < rows} for each in words)
    return all(other.get(token, i) == i for token, i in one.items()) and bool(one.keys() & other)
