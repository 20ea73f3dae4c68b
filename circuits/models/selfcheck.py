"""Prove a view on random tokens before anyone trusts it.

1. With every edge kept, each reader's value recomputed from the sources that the view names must
   give the clean logits: fails for a norm or an output matrix misread, or a source left out.
2. With none kept, each reader's value taken from a corrupted run must give the corrupted logits:
   fails where something bypasses the readers.
3. Which head is which is not seen by either: `headcheck.py` disturbs single heads.
4. The same logits must come out when the prompts' shared start is run once and cached, and when
   the last layer is run only where they are read.

Where a part says the same whatever it reads (an output matrix, an MLP or an unembedding that is
zero, as in a network at its start or with parts switched off), 1, 2 and 4 prove nothing of it: they
are done again with fresh weights in the place of its zeros, which are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from circuits.errors import CircuitsError
from circuits.models.headcheck import check_heads
from circuits.models.hooks import Hooks
from circuits.models.load_errors import abbreviated
from circuits.models.rounding import allowed_error
from circuits.models.running import Running, require_order
from circuits.models.stream import SourceActivations
from circuits.models.view import (
    Projection,
    ReadsHeads,
    ReadsInput,
    View,
    WritesHeads,
    WritesMLP,
)
from tasks.pairs import PairBatch, PairSet, PromptPair

if TYPE_CHECKING:
    from circuits.models.hooked import HookedModel

_LENGTH, _SHARED, _ANSWER = 4, 2, 3  # a decoder reads three positions: q and k move others


def check_view(model: HookedModel) -> None:
    """Raise `CircuitsError` if the model does not compute what its view says."""
    require_order(model.view, type(model.hf).__name__)
    batch = probe(model)
    with torch.no_grad():
        if silent := _check_runs(model, batch):
            with _fresh_for_zeros(silent):
                _check_runs(model, batch)
        check_heads(model, batch)


def _check_runs(model: HookedModel, batch: PairBatch) -> list[nn.Module]:
    """Points 1, 2 and 4; returns the modules behind parts that say the same whatever they read."""
    record, hooks, thrice = Hooks(), Hooks(), batch.repeat(3)
    values = _record(model.view, record)
    corrupted = model.logits(batch.corrupted, batch, record)
    runs = _replace(model.view, values, hooks)
    clean, every_edge, no_edge = model.logits(thrice.clean, thrice, hooks).chunk(3)
    rest, prefix = model.share_prefix(batch)
    both = model.logits(rest.clean, rest, prefix=prefix, last_layer_at_answers=True)
    if not clean.isfinite().all():
        _require_finite_weights(model)
    compare = partial(_compare, type(model.hf).__name__, model.hf.dtype)
    compare("with every edge kept, the clean", every_edge, clean)
    compare("with no edge kept, the corrupted", no_edge, corrupted)
    if _error(both, clean) > allowed_error(model.hf.dtype):  # which of the two it is
        cached = model.logits(rest.clean, rest, prefix=prefix)
        compare("behind a cached prefix, the clean", cached, clean)
    compare("with the last layer run where it is read, the clean", both, clean)
    silent = [_container(model, event) for run in runs for event in run.silent]
    if bool((clean == clean[:1]).all()):
        silent.append(model.hf.get_output_embeddings())
    return silent


def _require_finite_weights(model: HookedModel) -> None:
    bad = [
        name
        for name, parameter in model.hf.named_parameters()
        if not parameter.is_meta and not parameter.isfinite().all()
    ]
    if bad:
        raise CircuitsError(
            f"{model.name}: weights hold NaN or infinity: {abbreviated(bad)}; the checkpoint is "
            "damaged, or its training diverged"
        )


def probe(model: HookedModel) -> PairBatch:
    """Two pairs of a few random tokens, on the model's device, to prove things on."""
    d_vocab = model.d_vocab
    length = min(_LENGTH, (model.n_ctx or 2 * _LENGTH) - _ANSWER)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint(d_vocab, (2, 2, length), generator=generator)
    draw[1] = torch.where(draw[1] == draw[0], (draw[1] + 1) % d_vocab, draw[1])
    draw[1, :, :_SHARED] = draw[0, :, :_SHARED]
    # Different tokens: where a decoder reads the same everywhere, attention cannot be seen to move.
    answer = tuple((token % d_vocab,) for token in range(3, 3 + _ANSWER))
    pairs = tuple(
        PromptPair(tuple(clean), tuple(corrupted), answer, source="self-check")
        for clean, corrupted in zip(*draw.tolist(), strict=True)
    )
    return next(PairSet(pairs).batches(2)).to(model.device)


def _error(logits: Float[Tensor, "read vocab"], expected: Float[Tensor, "read vocab"]) -> float:
    """The largest difference, as a share of the largest logit; equal zeros differ by nothing."""
    difference = float((logits - expected).abs().max())
    return difference / float(expected.abs().max()) if difference else 0.0


def _compare(
    architecture: str,
    dtype: torch.dtype,
    what: str,
    logits: Float[Tensor, "read vocab"],
    expected: Float[Tensor, "read vocab"],
) -> None:
    error, tolerance = _error(logits, expected), allowed_error(dtype)
    if not error <= tolerance:
        raise CircuitsError(
            f"{architecture}: the residual-stream view is wrong for this model: {what} logits are "
            f"missed by {error:.1e} of their largest (allowed {tolerance:.0e}); it is not supported"
        )


_Values = dict[nn.Module, Tensor]
"""Readers' values of a run: what went into, or came out of, the module that they stand at."""


def _record(view: View, hooks: Hooks) -> _Values:
    values: _Values = {}
    for stream in view.streams:
        for event in stream.events:
            if isinstance(event, ReadsHeads):
                for module in event.modules:
                    hooks.after(module, partial(values.__setitem__, module))
            elif isinstance(event, ReadsInput):
                hooks.before(event.module, partial(values.__setitem__, event.module))
    return values


def _replace(view: View, values: _Values, hooks: Hooks) -> list[Running]:
    """Of a batch's three parts leave the first as it is; put every reader's value in the second
    from the sum of the sources that it sees, by the view's weights, and in the third from `values`.

    Returns what follows those sums.
    """
    states = SourceActivations(view)
    states.record(hooks.for_part(1, 3))
    runs = [Running(states, stream) for stream in view.streams]

    def put(module: nn.Module, recompute: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        first, second, _ = x.chunk(3)
        return torch.cat([first, recompute(second), values[module]])

    for run, stream in zip(runs, view.streams, strict=True):
        for index, event in enumerate(stream.events):
            if isinstance(event, ReadsInput):
                enter = partial(_enter, partial(run.before, index, event.norm))
                hooks.before(event.module, partial(put, event.module, enter))
            elif isinstance(event, ReadsHeads):
                value = partial(run.before, index, event.norm)
                for module, parts in event.modules.items():
                    project = partial(_project, value, [part for part, _ in parts])
                    hooks.after(module, partial(put, module, project))
    return runs


def _enter(value: Callable[[], Tensor], x: Tensor) -> Tensor:
    return value().to(x.dtype).reshape(x.shape)


def _project(value: Callable[[], Tensor], projections: list[Projection], x: Tensor) -> Tensor:
    new = x.clone()
    for projection in projections:
        weight = rearrange(
            projection.weight.float(), "head d_model d_head -> d_model (head d_head)"
        )
        output = rearrange(
            value() @ weight, "... (head d_head) -> ... head d_head", head=projection.n_heads
        )
        if projection.bias is not None:
            output = output + projection.bias.float()
        projection.heads(new).copy_(output)
    return new


def _container(model: HookedModel, event: WritesHeads | WritesMLP) -> nn.Module:
    """The module around a part that writes: its attention, or its MLP."""
    if isinstance(event, WritesHeads):
        return event.attention.module
    names = {module: name for name, module in model.hf.named_modules()}
    return model.hf.get_submodule(names[event.mlp.hidden].rpartition(".")[0])


@contextmanager
def _fresh_for_zeros(modules: Sequence[nn.Module]) -> Iterator[None]:
    """For one block of code, random numbers in the place of every zero in the modules' matrices."""
    matrices = {
        id(parameter): parameter.data
        for module in modules
        for parameter in module.parameters()
        if parameter.ndim > 1 and parameter.is_floating_point() and not parameter.is_meta
    }
    originals = [(matrix, matrix.clone()) for matrix in matrices.values() if not matrix.all()]
    generator = torch.Generator().manual_seed(0)
    try:
        for matrix, before in originals:
            fresh = torch.randn(matrix.shape, generator=generator) * matrix.numel() ** -0.25
            matrix.copy_(torch.where(before == 0, fresh.to(before), before))
        yield
    finally:
        for matrix, before in originals:
            matrix.copy_(before)
