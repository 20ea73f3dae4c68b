"""Prove a view on random tokens before anyone trusts it.

1. With every edge kept, each reader's value recomputed from the sources that the view names must
   give the clean logits: fails for a norm or an output matrix misread, or a source left out.
2. With none kept, each reader's value taken from a corrupted run must give the corrupted logits:
   fails where something bypasses the readers.
3. Which head is which is not seen by either, so single heads of the first layer are disturbed: a
   query must move its own head at its own position, a key its group (at later positions, if
   attention is causal), and a constant added to a value must arrive in its group as it is,
   attention weights summing to 1.
4. The same logits must come out when the prompts' shared start is run once and cached, and when
   the last layer is run only where they are read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuits.errors import CircuitsError
from circuits.models.failures import some
from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.stream import SourceStates, Wide
from circuits.models.view import (
    Attention,
    Event,
    Projection,
    ReadsHeads,
    ReadsInput,
    Stream,
    View,
    WritesHeads,
)
from tasks.pairs import PairBatch, PairSet, PromptPair

if TYPE_CHECKING:
    from circuits.models.hooked import HookedModel

_LENGTH, _SHARED, _ANSWER = 8, 2, 4
_PUSHES = (3.0, -3.0, 30.0, -30.0)  # until attention moves: it may be saturated


def check_view(model: HookedModel) -> None:
    """Raise `CircuitsError` if the model does not compute what its view says."""
    batch = _probe(model.vocabulary, min(_LENGTH, (model.context or 2 * _LENGTH) - _ANSWER)).to(
        model.device
    )
    rest, prefix = model.split(batch)
    with torch.no_grad():
        clean = model.logits(batch.clean, batch)
        corrupted = model.logits(batch.corrupted, batch)
        kept = model.logits(batch.clean, batch, _recomputed(model.view))
        none = model.logits(batch.clean, batch, _from_corrupted(model, batch))
        cached = model.logits(rest.clean, rest, prefix=prefix)
        narrow = model.logits(batch.clean, batch, narrow=True)
    architecture = type(model.hf).__name__
    if not clean.isfinite().all():
        _require_finite_weights(model)
    for what, found, expected in (
        ("with every edge kept, the clean", kept, clean),
        ("with no edge kept, the corrupted", none, corrupted),
        ("behind a cached prefix, the clean", cached, clean),
        ("with the last layer run where it is read, the clean", narrow, clean),
    ):
        _compare(architecture, what, found, expected, model.hf.dtype)
    for index, attention in enumerate(model.view.attentions):
        if attention.place.layer > 0:
            continue
        for projection in attention.projections:
            if not _moves_its_heads(model, batch, index, projection):
                raise CircuitsError(
                    f"{architecture}: the residual-stream view is wrong for this model: the last "
                    f"{projection.port} head of {attention.place.prefix} is not where the view "
                    "says; it is not supported"
                )


def _require_finite_weights(model: HookedModel) -> None:
    bad = [name for name, one in model.hf.named_parameters() if not one.isfinite().all()]
    if bad:
        raise CircuitsError(
            f"{model.name}: weights hold NaN or infinity: {some(bad)}; the checkpoint is damaged, "
            "or its training diverged"
        )


def _probe(vocabulary: int, length: int) -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint(vocabulary, (2, 2, length), generator=generator)
    draw[1] = torch.where(draw[1] == draw[0], (draw[1] + 1) % vocabulary, draw[1])
    draw[1, :, :_SHARED] = draw[0, :, :_SHARED]
    # Different tokens: where a decoder reads the same everywhere, attention cannot be seen to move.
    answer = tuple((token % vocabulary,) for token in range(3, 3 + _ANSWER))
    pairs = tuple(
        PromptPair(tuple(clean), tuple(corrupted), answer, source="self-check")
        for clean, corrupted in zip(*draw.tolist(), strict=True)
    )
    return next(PairSet(pairs).batches(2))


def _compare(
    architecture: str,
    what: str,
    found: Float[Tensor, "read vocab"],
    expected: Float[Tensor, "read vocab"],
    dtype: torch.dtype,
) -> None:
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= tolerance:
        raise CircuitsError(
            f"{architecture}: the residual-stream view is wrong for this model: {what} logits are "
            f"missed by {error:.1e} of their largest (allowed {tolerance:.0e}); it is not supported"
        )


def _recomputed(view: View) -> Hooks:
    """Every reader's value from the sum of the sources that it sees and the view's weights."""
    hooks = Hooks()
    states = SourceStates(view)
    states.record(hooks)
    for stream in view.streams:
        for place, event in enumerate(stream.events):
            total = partial(_total, states, stream, stream.events[:place])
            if isinstance(event, ReadsInput):
                rows = view.layout.visible(event.column)
                hooks.before(event.module, partial(_enter, partial(total, rows, event.norm)))
            elif isinstance(event, ReadsHeads):
                rows = view.layout.visible(event.span.start)
                for module, parts in event.modules.items():
                    value = partial(total, rows, event.norm)
                    hooks.after(module, partial(_project, value, [part for part, _ in parts]))
    return hooks


def _enter(value: Callable[[], Tensor], x: Tensor) -> Tensor:
    return value().to(x.dtype).reshape(x.shape)


def _project(value: Callable[[], Tensor], projections: list[Projection], x: Tensor) -> Tensor:
    new = x.clone()
    for projection in projections:
        output = torch.einsum("bpd,hdk->bphk", value(), projection.weight.float())
        if projection.bias is not None:
            output = output + projection.bias.float()
        projection.heads(new).copy_(output)
    return new


def _total(
    states: SourceStates,
    stream: Stream,
    passed: tuple[Event, ...],
    rows: range,
    norm: Norm | None,
) -> Float[Tensor, "batch pos d_model"]:
    """What a reader is given: the sum of what the view says is in the stream, with the biases that
    never differ, through the norm.
    """
    everything = slice(None)
    wide = Wide(stream, [states], (everything, everything))
    for event in passed:
        wide.pass_by(event)
    total = wide.seen(rows).sum(dim=0)
    if states.view.linear:
        for event in passed:
            if isinstance(event, WritesHeads) and event.attention.place.rows.start in rows:
                bias = event.attention.output_bias
                total = total if bias is None else total + bias.float()
    if norm is None:
        return total
    total = norm.normalise(total)[0] * norm.weight.float()
    return total if norm.bias is None else total + norm.bias.float()


def _moves_its_heads(
    model: HookedModel, batch: PairBatch, index: int, projection: Projection
) -> bool:
    """Whether disturbing the port's last head at the second position moves what it should."""
    at, heads = 1, model.layout.n_heads
    attention = model.view.attentions[index]
    group = 1 if projection.port == "q" else heads // projection.n_heads
    still = _mixed(model, batch, attention)
    for size in _PUSHES:
        push = torch.linspace(-size, size, projection.d_head, device=model.device)
        where = slice(None) if projection.port == "v" else slice(at, at + 1)

        def disturb(output: Tensor, push: Tensor = push, where: slice = where) -> Tensor:
            new = output.clone()
            projection.heads(new)[:, where, -1] += push.to(new.dtype)
            return new

        pushed = _mixed(model, batch, attention, (_disturbed(attention, projection), disturb))
        moved = (pushed - still).view(*still.shape[:2], heads, -1)
        mine, others = moved[:, :, -group:], moved[:, :, :-group]
        if others.any():
            return False
        if projection.port == "v":
            return bool(torch.allclose(mine, push.expand_as(mine), atol=0.05))
        places = mine.abs().amax(dim=(0, 2, 3)) > 0
        if not places.any():
            continue
        if projection.port == "q":
            return bool(places[at]) and int(places.sum()) == 1
        return attention.place.encoder or attention.place.cross or not places[:at].any()
    return False


def _mixed(
    model: HookedModel,
    batch: PairBatch,
    attention: Attention,
    edit: tuple[nn.Module, Callable[[Tensor], Tensor]] | None = None,
) -> Float[Tensor, "batch pos feature"]:
    """What an attention's output matrix reads, with the output of one module edited."""
    hooks = Hooks()
    seen: list[Tensor] = []
    hooks.before(attention.output, seen.append)
    if edit is not None:
        hooks.after(*edit)
    with torch.no_grad():
        model.logits(batch.clean, batch, hooks)
    return seen[0].float()


def _disturbed(attention: Attention, projection: Projection) -> nn.Module:
    """The projection's module; or the norm behind it, if that spans all heads (OLMo 2) and would
    let one head move the others. It keeps the features' order.
    """
    norm = getattr(attention.module, f"{projection.port}_norm", None)
    if isinstance(norm, nn.Module) and Norm.of(norm).weight.numel() > projection.d_head:
        return norm
    return projection.module


def _from_corrupted(model: HookedModel, batch: PairBatch) -> Hooks:
    """Every reader's value from a run on the corrupted tokens."""
    record, replay = Hooks(), Hooks()
    values: dict[tuple[int, bool], Tensor] = {}

    def tap(module: nn.Module, before: bool) -> None:
        key = (id(module), before)

        def keep(x: Tensor) -> None:
            values[key] = x.detach()

        (record.before if before else record.after)(module, keep)
        (replay.before if before else replay.after)(module, lambda _: values[key])

    for stream in model.view.streams:
        for event in stream.events:
            if isinstance(event, ReadsHeads):
                for module in event.modules:
                    tap(module, before=False)
            elif isinstance(event, ReadsInput):
                tap(event.module, before=True)
    model.logits(batch.corrupted, batch, record)
    return replay
