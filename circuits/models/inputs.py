"""What a model is given for a batch of pairs.

A decoder-only model reads the prompt with the fed part of the answer behind it. An encoder-decoder
gets the prompt in its encoder and the fed part of the answer, behind the start token, in its
decoder: position k of the decoder predicts answer token k.

Positions before the first one at which clean and corrupted prompts differ are the same in both runs
and in every run between: a decoder-only model runs them once and keeps their keys and values
(`Prefix`). No score is lost, for a source that does not change has no edge to score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig

from circuits.errors import CircuitsError
from tasks.pairs import PairBatch

_WORTHWHILE = 16  # a prefix shorter than a sixteenth of the prompt is not split off


@dataclass(frozen=True)
class Prefix:
    """The shared start of a batch's prompts, run once.

    Attributes:
        length: its number of positions.
        layers: each layer's keys and values there.
    """

    length: int
    layers: tuple[
        tuple[Float[Tensor, "batch head pos d_k"], Float[Tensor, "batch head pos d_v"]], ...
    ]

    def tensors(self) -> Iterator[Tensor]:
        """Every layer's keys and values."""
        for keys, values in self.layers:
            yield from (keys, values)

    def cache(self) -> DynamicCache:
        """A cache to go on from; a new one for every run, which extends it."""
        cache = DynamicCache()
        for index, (keys, values) in enumerate(self.layers):
            cache.update(keys, values, index)
        return cache

    def repeat(self, n: int) -> Prefix:
        """The prefix of `PairBatch.repeat`.

        Args:
            n: how many copies of the examples there are in all.

        Returns:
            The prefix, copy after copy.
        """
        layers = tuple(
            (keys.repeat(n, 1, 1, 1), values.repeat(n, 1, 1, 1)) for keys, values in self.layers
        )
        return Prefix(self.length, layers)


def shared_length(batch: PairBatch, longrope_window: int | None = None) -> int:
    """Positions that a batch's clean and corrupted prompts share before anything is read.

    Args:
        batch: clean and corrupted prompts.
        longrope_window: the model's, see `HookedModel.longrope_window`; longer batches share
            nothing.

    Returns:
        Their number; 0 where it is too small to be worth a run of its own.
    """
    if longrope_window is not None and batch.clean.shape[1] > longrope_window:
        return 0
    different = (batch.clean != batch.corrupted).any(dim=0).nonzero()
    first = int(different[0]) if len(different) else batch.clean.shape[1]
    length = min(first, int(batch.position.min()))
    return length if length * _WORTHWHILE >= batch.clean.shape[1] else 0


def drop_prefix(batch: PairBatch, length: int) -> PairBatch:
    """The batch without its first positions.

    Args:
        batch: prompts that share them.
        length: how many positions to drop.

    Returns:
        The rest; answer positions count from its start.
    """
    return replace(
        batch,
        clean=batch.clean[:, length:],
        corrupted=batch.corrupted[:, length:],
        mask=batch.mask[:, length:],
        position=batch.position - length,
    )


@dataclass(frozen=True)
class ModelInputs:
    """Arguments of the model's forward, and where its logits are read.

    Attributes:
        arguments: of the model's `forward`.
        example_index: for each answer position, which example it is of.
        position: for each answer position, where it is in the stream that is read.
        lengths: per stream and example, positions that are no padding.
    """

    arguments: dict[str, object]
    example_index: Int[Tensor, " read"]
    position: Int[Tensor, " read"]
    lengths: tuple[Int[Tensor, " batch"], ...]


def decoder_only(
    tokens: Int[Tensor, "batch pos"], batch: PairBatch, prefix: Prefix | None = None
) -> ModelInputs:
    """The prompt and the answer as one text, perhaps behind a prefix that was run already.

    Args:
        tokens: the batch's clean or corrupted ids.
        batch: where its answers are read.
        prefix: what was cut off from the batch.

    Returns:
        The inputs of a decoder-only model.
    """
    arguments: dict[str, object] = {"input_ids": tokens, "use_cache": False}
    # Padding stands on the right, where causal attention never looks back at it; the mask is
    # passed all the same, for models that derive positions from it.
    if batch.padded:
        arguments["attention_mask"] = batch.mask.long()
    if prefix is not None:
        arguments["past_key_values"] = prefix.cache()
        if batch.padded:
            ones = batch.mask.new_ones(len(batch), prefix.length)
            arguments["attention_mask"] = torch.cat([ones, batch.mask], dim=1).long()
    return ModelInputs(arguments, batch.example_index, batch.position, (batch.mask.sum(dim=1),))


def encoder_decoder(
    tokens: Int[Tensor, "batch pos"], batch: PairBatch, config: PretrainedConfig
) -> ModelInputs:
    """The prompt to the encoder; the start token and the fed part of the answer to the decoder.

    Args:
        tokens: the batch's clean or corrupted ids.
        batch: where its answers are read.
        config: of the model, which names its start token.

    Returns:
        The inputs of an encoder-decoder model.

    Raises:
        CircuitsError: where the configuration names no start token.
    """
    start = getattr(config.get_text_config(), "decoder_start_token_id", None)
    if start is None:
        raise CircuitsError(
            f"{type(config).__name__}: no decoder_start_token_id; set it in the model's config.json"
        )
    n, length = tokens.shape
    positions = torch.arange(length, device=tokens.device)
    first = torch.full((n,), length, device=tokens.device).scatter_reduce(
        0, batch.example_index, batch.position, "amin"
    )
    last = torch.zeros_like(first).scatter_reduce(0, batch.example_index, batch.position, "amax")
    prompt = positions <= first[:, None]
    wide = int((last - first).max()) + 1
    fed = first[:, None] + torch.arange(wide, device=tokens.device)
    decoder = tokens.gather(1, fed.clamp(max=length - 1))
    decoder[:, 0] = start
    encoder_length = int(first.max()) + 1
    arguments: dict[str, object] = {
        "input_ids": tokens[:, :encoder_length],
        "decoder_input_ids": decoder,
        "use_cache": False,
    }
    if not bool(prompt[:, :encoder_length].all()):
        arguments["attention_mask"] = prompt[:, :encoder_length].long()
    return ModelInputs(
        arguments,
        batch.example_index,
        batch.position - first[batch.example_index],
        (first + 1, last - first + 1),
    )
