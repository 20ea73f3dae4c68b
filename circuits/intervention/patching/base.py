"""A run that others go on from: at any layer and any position, in any number of copies.

A patch at layer l and position p leaves the layers before l and, attention being causal, the
positions before p as they were. So a patched run is the base run's stream at l and its keys and
values before p, gone on from there: on average a quarter of the work of a whole run. Nothing is
approximated. The model's own modules do it: blocks before l hand their input through, and keys and
values come in as a cache, as in generation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from circuits.models import HookedModel
from circuits.models.forwards import replaced_forwards
from circuits.models.hooks import Hooks
from circuits.models.rounding import allowed_error
from tasks.pairs import PairBatch


@dataclass(frozen=True)
class ResumePoint:
    """Where a run is resumed: all before this layer and this position is the base run's."""

    layer: int
    position: int


class ResumableRun:
    """One run of a batch with what is needed to go on from any place of it.

    logits: float32, at the batch's answer positions.
    """

    def __init__(
        self,
        model: HookedModel,
        batch: PairBatch,
        tokens: Int[Tensor, "batch pos"],
        hooks: Hooks | None = None,
    ) -> None:
        """hooks: what else is recorded in this run."""
        self.model, self.batch, self.tokens = model, batch, tokens
        self._streams: list[Float[Tensor, "batch pos d_model"]] = []  # before each block, and last
        self._returns: list[int | None] = []  # how many things each block returns; None: a tensor
        blocks = [layer.block for layer in model.view.layers]
        hooks = Hooks() if hooks is None else hooks
        for block in blocks:
            hooks.before(block, self._streams.append)
        hooks.after(blocks[-1], self._streams.append)
        past = DynamicCache()
        with ExitStack() as stack:
            for block in blocks:
                stack.callback(block.register_forward_hook(self._see_return).remove)
            stack.enter_context(_arguments(model.hf, past_key_values=past, use_cache=True))
            self.logits: Float[Tensor, "read vocab"] = model.logits(tokens, batch, hooks)
        # Of every layer, keys and values: those that are alike and in one place are copied at once.
        cached = (x for layer in past.layers for x in _keys_and_values(layer))
        alike = groupby(cached, key=lambda x: (x.device, x.shape))
        self._past = [torch.stack([*group]) for _, group in alike]
        self._reads: list[int] = batch.position.tolist()

    def tensors(self) -> Iterator[Tensor]:
        """All that it keeps."""
        yield self.logits
        yield from self._streams
        yield from self._past

    def run_from(
        self, start: ResumePoint, copies: int, hooks: Hooks
    ) -> Float[Tensor, "copy read vocab"]:
        """Logits of `copies` runs from `start` on, side by side along the batch axis.

        hooks: edits of tensors with copies * batch rows, copy by copy, and the positions from the
            start's on. Reads before the start's position keep the base run's logits.
        """
        batch, first = self.batch, start.position
        alive = [row for row, position in enumerate(self._reads) if position >= first]
        part = replace(
            batch,
            position=batch.position - first,
            mask=batch.mask[:, first:],
            clean=batch.clean[:, first:],
            corrupted=batch.corrupted[:, first:],
        )
        all_alive = len(alive) == len(self._reads)
        if not all_alive:
            rows = torch.tensor(alive, dtype=torch.long).to(batch.position.device)
            part = replace(
                part,
                example_index=part.example_index[rows],
                position=part.position[rows],
                answer=part.answer[rows],
                wrong=part.wrong[rows],
            )
        tokens = self.tokens[:, first:].repeat(copies, 1)
        with self._going_on(start, copies):
            logits = self.model.logits(tokens, part.repeat(copies), hooks)
        logits = logits.view(copies, -1, logits.shape[-1])
        if all_alive:
            return logits
        return self.logits.expand(copies, *self.logits.shape).index_copy(1, rows, logits)

    def check_resumable(self) -> bool:
        """Whether going on from the middle without an edit gives the base run's logits."""
        middle = min(self.tokens.shape[1] // 2, *self._reads)
        start = ResumePoint(len(self._returns) // 2, middle)
        error = (self.run_from(start, 2, Hooks()) - self.logits).abs().max()
        allowed = allowed_error(self.model.hf.dtype)
        return bool(error <= allowed * self.logits.abs().max())

    @contextmanager
    def _going_on(self, start: ResumePoint, copies: int) -> Iterator[None]:
        blocks = [layer.block for layer in self.model.view.layers]
        skipped = list(zip(blocks, self._returns, strict=True))[: start.layer]
        inject = Hooks()
        if skipped:
            stream = self._streams[start.layer][:, start.position :]
            inject.after(skipped[-1][0], lambda x: stream.repeat(copies, 1, 1).view(x.shape))
        with ExitStack() as stack:
            forwards = {block: partial(_hand_through, returns) for block, returns in skipped}
            stack.enter_context(replaced_forwards(forwards))
            stack.enter_context(inject)
            if start.position:
                stack.enter_context(_arguments(self.model.hf, **self._memory(start, copies)))
            yield

    def _memory(self, start: ResumePoint, copies: int) -> dict[str, object]:
        """The arguments by which the model knows of the positions before the start's."""
        keys_values: list[Tensor] = []
        for stacked in self._past:
            cached = stacked[..., : start.position, :]
            # A skipped layer's are only asked for their length.
            skipped = min(max(2 * start.layer - len(keys_values), 0), len(cached))
            keys_values += [*cached[:skipped], *cached[skipped:].repeat(1, copies, 1, 1, 1)]
        past = DynamicCache()
        past.layers = [
            _filled(*pair) for pair in zip(keys_values[::2], keys_values[1::2], strict=True)
        ]
        mask = self.batch.mask.long().repeat(copies, 1) if self.batch.padded else None
        return {"past_key_values": past, "use_cache": True, "attention_mask": mask}

    def _see_return(self, _: nn.Module, __: object, output: object) -> None:
        self._returns.append(len(output) if isinstance(output, tuple) else None)


@contextmanager
def _arguments(model: nn.Module, **keywords: object) -> Iterator[None]:
    """Have a module called with these keyword arguments."""

    def add(
        _: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        return args, {**kwargs, **keywords}

    handle = model.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _hand_through(returns: int | None, hidden_states: Tensor, *_: object, **__: object) -> object:
    """What a block gives that hands its input through; `returns` is how many things it returns."""
    return hidden_states if returns is None else (hidden_states, *[None] * (returns - 1))


def _keys_and_values(layer: object) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, CacheLayerMixin)
    assert layer.keys is not None and layer.values is not None
    return layer.keys, layer.values


def _filled(
    keys: Float[Tensor, "batch head pos d_head"], values: Float[Tensor, "batch head pos d_head"]
) -> DynamicLayer:
    """A layer's memory that holds these, where `update` would copy them once more."""
    layer = DynamicLayer()
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    return layer
