"""Training examples as tensors: a prompt, then its target, teacher-forced.

Batches are right-padded and hold examples of like length. A *read* is one position whose next
token is a target token: the only positions whose logits anything here looks at.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel

from circuits.errors import CircuitsError
from circuits.models.context_length import context_window
from tasks.pairs import TrainingExample

if TYPE_CHECKING:
    from circuits.tuning.tuned_model import TunedModel


def without_adapter(model: TunedModel) -> PreTrainedModel:
    """The Hugging Face model itself; adapters stay inside its layers."""
    if isinstance(model, PreTrainedModel):
        return model
    plain = model.get_base_model()
    assert isinstance(plain, PreTrainedModel)
    return plain


LARGEST_POOL = 8  # batches; shuffled examples are sorted by length within a pool


@dataclass(frozen=True)
class TargetBatch:
    """Examples as tensors, right-padded.

    tokens: prompt and all of the target but its last token; padding is 0 where `mask` is False.
    example_index, position: for each read, which example of the batch it is of, and where in the
        text; reads of one example stand together, in order.
    labels: for each read, the target token that comes next.
    """

    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    example_index: Int[Tensor, " read"]
    position: Int[Tensor, " read"]
    labels: Int[Tensor, " read"]

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def to(self, device: torch.device | str) -> TargetBatch:
        """The same batch on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


def fed_length(example: TrainingExample) -> int:
    """Tokens of an example that the model is fed: all but the last target token."""
    return len(example.prompt) + len(example.target) - 1


def collate(examples: Sequence[TrainingExample]) -> TargetBatch:
    """One batch, in the order given."""
    width = max(fed_length(example) for example in examples)
    tokens, mask = [], []
    example_index: list[int] = []
    position: list[int] = []
    labels: list[int] = []
    for i, example in enumerate(examples):
        length, reads = fed_length(example), len(example.target)
        tokens.append([*example.prompt, *example.target[:-1], *[0] * (width - length)])
        mask.append([True] * length + [False] * (width - length))
        example_index += [i] * reads
        position += range(length - reads, length)
        labels += example.target
    return TargetBatch(
        tokens=torch.tensor(tokens),
        mask=torch.tensor(mask),
        example_index=torch.tensor(example_index),
        position=torch.tensor(position),
        labels=torch.tensor(labels),
    )


def training_order(lengths: Sequence[int], size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Batches of indices for one epoch: every index once, like lengths together, random order.

    The same arguments give the same batches, so a run can be taken up at any step.
    """
    dice = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    dice.shuffle(order)
    pools_of = max(1, min(LARGEST_POOL, len(order) // (4 * size)))  # few batches: mix, not sort
    pool = size * pools_of
    for start in range(0, len(order), pool):
        order[start : start + pool] = sorted(order[start : start + pool], key=lengths.__getitem__)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    dice.shuffle(batches)
    return batches


@dataclass(frozen=True)
class Share:
    """What one process runs of each step: the step's batch is cut into `pieces` for each of
    `processes`, as even as can be, and this is process number `rank` (from 0).
    """

    pieces: int = 1
    processes: int = 1
    rank: int = 0

    def of(self, index: Sequence[int]) -> list[list[int]]:
        """The pieces of a batch that this process runs, in order; one may be empty."""
        parts = self.pieces * self.processes
        cuts = [len(index) * part // parts for part in range(parts + 1)]
        own_parts = range(self.rank, parts, self.processes)
        return [list(index[cuts[part] : cuts[part + 1]]) for part in own_parts]


@dataclass(frozen=True)
class Piece:
    """What is run at once. step_targets: target tokens of the whole step, all pieces of it."""

    batch: TargetBatch
    step_targets: int


def training_pieces(
    examples: Sequence[TrainingExample],
    size: int,
    *,
    seed: int,
    start: int = 0,
    share: Share | None = None,
) -> Iterator[Piece]:
    """Pieces of steps without end, epoch after epoch, beginning with step number `start` + 1."""
    share = share or Share()
    lengths = [fed_length(example) for example in examples]
    epoch, position = divmod(start, -(-len(examples) // size))
    while True:
        for index in training_order(lengths, size, seed=seed, epoch=epoch)[position:]:
            targets = sum(len(examples[i].target) for i in index)
            for piece in share.of(index):
                batch_examples = [examples[i] for i in piece]
                yield Piece(
                    collate(batch_examples) if batch_examples else _nothing(examples[index[0]]),
                    targets,
                )
        epoch, position = epoch + 1, 0


def _nothing(example: TrainingExample) -> TargetBatch:
    """A batch without reads: its loss is 0 and so are its gradients, which other processes wait
    for.
    """
    batch, none = collate([example]), torch.empty(0, dtype=torch.long)
    return replace(batch, example_index=none, position=none, labels=none)


def by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in batches for evaluation, longest first, so that memory peaks at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def require_examples(
    examples: Sequence[TrainingExample], model: TunedModel, *, what: str = "training"
) -> None:
    """Refuse a model that is no causal one, an empty set, and any example that a model of this size
    cannot read, by its name.
    """
    if model.config.get_text_config().is_encoder_decoder:
        raise CircuitsError(
            f"{model.config.model_type} is an encoder-decoder; only causal models are trained. "
            "Fine-tune it elsewhere: its checkpoints can be scored and compared all the same"
        )
    if not examples:
        raise CircuitsError(f"no {what} examples: an empty set")
    d_vocab = model.get_input_embeddings().num_embeddings
    assert isinstance(d_vocab, int)
    n_ctx = context_window(model.config)
    for example in examples:
        tokens = (*example.prompt, *example.target)
        if n_ctx is not None and fed_length(example) > n_ctx:
            raise CircuitsError(
                f"{example.source}: {fed_length(example)} tokens (target included), but the "
                f"model's context window holds {n_ctx}; shorten the text"
            )
        bad = next((token for token in tokens if not 0 <= token < d_vocab), None)
        if bad is not None:
            raise CircuitsError(
                f"{example.source}: token id {bad} is outside the model's vocabulary of "
                f"{d_vocab}; was it made by another tokenizer?"
            )
