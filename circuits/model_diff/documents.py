"""What two models do on each document of a set: the measurements behind a model diff.

Both models read the clean prompts, answers included as far as they are fed. Every figure is a mean
over the positions of a document that are not padding. Kept are the per-document values of each
layer and head (documents are what intervals resample), and running sums of the neurons.

Cost: one forward pass of each model without the unembedding, then each layer's attention of both is
made again from queries and keys, some queries at a time, for all that is read off it at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.model_diff.both_models import BothModels
from circuits.model_diff.head_types import (
    REPEATED,
    SEQUENCES,
    HeadMasses,
    HeadTypeKeys,
    KeyPositions,
    MassCollector,
)
from circuits.model_diff.neurons import NeuronStatistics, NeuronSums
from circuits.model_diff.paired_forward import BatchDiff, diff_batch
from circuits.models import HookedModel
from circuits.models.language import special_tokens
from circuits.options.run import RunOptions
from circuits.planning import choose_batch_size
from circuits.planning.costs import DIFF
from circuits.runtime.batching import over_batches
from circuits.runtime.resume import PartialResults, Pieces
from circuits.statistics import generator
from tasks.pairs import PairBatch, PairSet, PromptPair


@dataclass(frozen=True)
class DocumentDiffs:
    """How two models differ on each document.

    kl: KL(model || base) of attention, nats. entropy, entropy_base: of attention, nats.
    cosine: of the two hidden states. activation, activation_base: mean |hidden state|.
    stream_change, update_change: ||model - base|| / ||base|| of the hidden state after each block,
        which carries every earlier change along, and of the block's own update.
    head_masses: the attention that goes to each head type's keys.
    neurons: None where MLPs have none that can be seen.
    """

    kl: Float[Tensor, "doc layer head"]
    entropy: Float[Tensor, "doc layer head"]
    entropy_base: Float[Tensor, "doc layer head"]
    cosine: Float[Tensor, "doc layer"]
    activation: Float[Tensor, "doc layer"]
    activation_base: Float[Tensor, "doc layer"]
    stream_change: Float[Tensor, "doc layer"]
    update_change: Float[Tensor, "doc layer"]
    head_masses: dict[str, HeadMasses]
    neurons: NeuronStatistics | None

    def __len__(self) -> int:
        return len(self.kl)

    @property
    def entropy_change(self) -> Float[Tensor, "doc layer head"]:
        """Model less base: negative where attention grew sharper."""
        return self.entropy - self.entropy_base

    @property
    def same_attention(self) -> bool:
        """Whether no attention pattern differs beyond float32 rounding."""
        return bool(self.kl.max() <= 1e-6)

    @property
    def identical(self) -> bool:
        """Whether neither attention nor hidden states differ beyond float32 rounding."""
        return bool(self.stream_change.max() <= 1e-5) and self.same_attention


def diff_documents(
    model: HookedModel,
    base: HookedModel,
    pairs: PairSet,
    *,
    key_positions: KeyPositions | None = None,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> DocumentDiffs:
    """Run both models on the clean prompts and keep what differs inside, document by document.

    Arguments and errors are those of `diff_models`.
    """
    options = options or RunOptions()
    require_same_shape(model, base)
    pairs.validate(d_vocab=min(model.d_vocab, base.d_vocab), n_ctx=None)
    if len(pairs) < 2:
        raise CircuitsError("one document: intervals over documents need at least two")
    key_positions = key_positions or {}
    for name, positions in key_positions.items():
        if len(positions) != len(pairs):
            raise CircuitsError(
                f"key_positions {name!r}: positions for {len(positions)} texts and {len(pairs)} "
                "pairs"
            )
    batch_size = options.batch_size
    if batch_size is None:
        batch_size = choose_batch_size(model, pairs, DIFF)
    resume = resume or Pieces()
    documents, piece = _Documents(len(pairs)), resume.tensors()
    if piece.path is not None:
        identity = {
            "models": [[m.fingerprint, str(m.hf.dtype)] for m in (model, base)],
            "pairs": pairs.fingerprint,
            "key_positions": {
                name: list(map(list, positions)) for name, positions in key_positions.items()
            },
            "batch size": batch_size,
        }
        documents.restore(piece.load(len(pairs), identity))

    for batch, differences in over_batches(
        BothModels(model, base),
        pairs,
        _OfText(key_positions),
        batch_size=batch_size,
        done=piece.done if len(piece.done) else None,
        progress=f"{base.name} and {model.name}" if options.progress else None,
        engine=options.engine,
    ):
        if piece.path is None:
            documents.add(batch, differences)
            continue
        with piece.taking(batch.index):
            documents.add(batch, differences)
            piece.hold(documents.state())
    return documents.finish(_induction(model, base, options, resume.tensors()))


class _Documents:
    """What is kept of the documents as batches bring them."""

    def __init__(self, n: int) -> None:
        self._values: dict[str, Tensor] = {}
        self._n = n
        self._masses = MassCollector(n)
        self._neurons: NeuronSums | None = NeuronSums(n)

    def add(self, batch: PairBatch, differences: BatchDiff) -> None:
        for name, values in differences.values.items():
            if name not in self._values:
                self._values[name] = values.new_zeros(self._n, *values.shape[1:], device="cpu")
            self._values[name][batch.index.cpu()] = values.cpu()
        self._masses.add(differences.keys, batch.index, differences.mass, differences.mass_base)
        if differences.neurons is None:
            self._neurons = None
        elif self._neurons is not None:
            self._neurons.add(batch.index, *differences.neurons)

    def state(self) -> dict[str, Tensor]:
        """All that was added, by name."""
        neurons = {} if self._neurons is None else self._neurons.state()
        values = {f"values.{name}": tensor for name, tensor in self._values.items()}
        return {**values, **self._masses.state(), **neurons}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave, if anything."""
        if not state:
            return
        self._masses.restore(state)
        if self._neurons is not None and not self._neurons.restore(state):
            self._neurons = None
        values = {name: tensor for name, tensor in state.items() if name.startswith("values.")}
        self._values = {name.removeprefix("values."): tensor for name, tensor in values.items()}

    def finish(self, induction: dict[str, HeadMasses]) -> DocumentDiffs:
        """The whole set; induction: head types that were measured on other texts."""
        return DocumentDiffs(
            **self._values,
            head_masses=self._masses.masses() | induction,
            neurons=None if self._neurons is None else self._neurons.statistics(),
        )


@dataclass(frozen=True)
class _OfText:
    """The work on a batch of documents."""

    key_positions: KeyPositions

    def __call__(self, both: BothModels, batch: PairBatch) -> BatchDiff:
        keys = HeadTypeKeys.of_text(batch, self.key_positions)
        return diff_batch(both.model, both.base, batch, keys)


def _of_repeated(models: BothModels, batch: PairBatch) -> BatchDiff:
    """The work on a batch of random tokens that come twice."""
    return diff_batch(models.model, models.base, batch, HeadTypeKeys.of_repeated(batch))


def _induction(
    model: HookedModel, base: HookedModel, options: RunOptions, piece: PartialResults
) -> dict[str, HeadMasses]:
    """The masses of the induction types, on random tokens that come twice."""
    special, n_tokens = special_tokens(model.hf.config), min(model.d_vocab, base.d_vocab)
    usual = torch.tensor([token for token in range(n_tokens) if token not in special])
    length = min(REPEATED, len(usual), (model.n_ctx or 2 * REPEATED) // 2)
    draw = generator(options.seed)
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
    masses = MassCollector(SEQUENCES, "random sequences")

    if piece.path is not None:
        model_identities = [[m.fingerprint, str(m.hf.dtype)] for m in (model, base)]
        masses.restore(
            piece.load(SEQUENCES, {"models": model_identities, "pairs": pairs.fingerprint})
        )
    done = piece.done if len(piece.done) else None
    for batch, differences in over_batches(
        BothModels(model, base), pairs, _of_repeated, done=done, engine=options.engine
    ):
        masses.add(differences.keys, batch.index, differences.mass, differences.mass_base)
        piece.hold(masses.state())
        if piece.path is not None:
            piece.keep(batch.index)
    piece.write()
    return masses.masses()


def require_same_shape(model: HookedModel, base: HookedModel) -> None:
    """Raise CircuitsError, with both shapes, unless the models are of one shape.

    One may have more tokens than the other, added or for padding, where the others are the same:
    nothing here reads their logits.
    """
    other_tokens = model.d_vocab != base.d_vocab and not _share_tokens(model, base)
    shape, shape_base = (
        f"{m.layout.summary}, {m.hf.config.get_text_config().hidden_size} wide"
        + (f", {m.d_vocab} tokens" if other_tokens else "")
        for m in (model, base)
    )
    if model.layout != base.layout or shape != shape_base:
        raise CircuitsError(
            f"{model.name} and {base.name} are models of different shapes: {shape}; and "
            f"{shape_base}"
        )


def _share_tokens(model: HookedModel, base: HookedModel) -> bool:
    """Whether the tokens that both models embed are the same ones, where it can be told."""
    try:
        vocabularies = [m.tokenizer.get_vocab() for m in (model, base)]
    except CircuitsError:
        return True  # ready token ids
    n = min(model.d_vocab, base.d_vocab)
    ids, ids_base = ({token: i for token, i in v.items() if i < n} for v in vocabularies)
    same_ids = all(ids_base.get(token, i) == i for token, i in ids.items())
    return same_ids and bool(ids.keys() & ids_base)
