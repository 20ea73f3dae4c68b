"""Prove a view on random tokens before anyone trusts it.

1. With every edge kept, each reader's value recomputed from the sources that the view names must
   give the clean logits: fails for a norm or an output matrix misread, or a source left out.
2. With none kept, each reader's value taken from a corrupted run must give the corrupted logits:
   fails where something bypasses the readers.
3. Which head is which is not seen by either, so single heads of the first layer are disturbed: a
   query must move its own head at its own position, a key its group at later positions, and a
   constant added to a value must arrive in its group as it is, attention weights summing to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.models.hooks import Edit, Hooks
from circuits.models.stream import SourceStates
from circuits.models.view import Layer, Projection, View
from tasks.pairs import PairBatch, PairSet, PromptPair

if TYPE_CHECKING:
    from circuits.models.hooked import HookedModel

_LENGTH = 8


def check_view(model: HookedModel) -> None:
    """Raise `CircuitsError` if the model does not compute what its view says."""
    batch = _probe(model.vocabulary, min(_LENGTH, model.context or _LENGTH)).to(model.device)
    with torch.no_grad():
        clean = model.logits(batch.clean, batch)
        corrupted = model.logits(batch.corrupted, batch)
        kept = model.logits(batch.clean, batch, _recomputed(model.view))
        none = model.logits(batch.clean, batch, _from_corrupted(model, batch))
    architecture = type(model.hf).__name__
    _compare(architecture, "with every edge kept, the clean", kept, clean, model.hf.dtype)
    _compare(architecture, "with no edge kept, the corrupted", none, corrupted, model.hf.dtype)
    for projection in model.view.layers[0].projections:
        if not _moves_its_heads(model, batch, projection):
            raise CircuitsError(
                f"{architecture}: the residual-stream view is wrong for this model: its last "
                f"{projection.port} head is not where the view says; it is not supported"
            )


def _probe(vocabulary: int, length: int) -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint(vocabulary, (2, 2, length), generator=generator).tolist()
    pairs = tuple(
        PromptPair(tuple(clean), tuple(corrupted), ((0,),), source="self-check")
        for clean, corrupted in draw
        if clean != corrupted
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
    """Every reader's value from the sum of the sources before it and the view's weights."""
    hooks = Hooks()
    states = SourceStates(view)
    states.record(hooks)
    for index, layer in enumerate(view.layers):
        mlp_sees_heads = not view.layout.parallel
        for module, projections in layer.modules.items():
            hooks.after(module, _project(states, index, layer, projections))
        hooks.before(
            layer.mlp_norm.module, _stream(states, index + 1 if mlp_sees_heads else index, index)
        )
    hooks.before(view.final_norm, _stream(states, len(view.layers), len(view.layers)))
    return hooks


def _stream(states: SourceStates, attentions: int, mlps: int) -> Edit:
    """An edit that puts the sum of the first sources in place of the stream."""

    def edit(x: Tensor) -> Tensor:
        total = _sum(states, attentions, mlps)
        return total.to(x.dtype).reshape(x.shape)

    return edit


def _sum(states: SourceStates, attentions: int, mlps: int) -> Float[Tensor, "batch pos d_model"]:
    total = states.start.float()
    for index in range(max(attentions, mlps)):
        layer = states.view.layers[index]
        if index < attentions:
            heads = torch.einsum(
                "bphk,hkd->bpd", states.z[index].float(), layer.output_weight.float()
            )
            total = total + heads
            if isinstance(layer.output.bias, Tensor):
                total = total + layer.output.bias.float()
        if index < mlps:
            total = total + states.mlp[index].float()
    return total


def _project(states: SourceStates, index: int, layer: Layer, projections: list[Projection]) -> Edit:
    """An edit that puts W(norm(sum of sources)) + b in place of a projection's output."""

    def edit(x: Tensor) -> Tensor:
        norm = layer.attention_norm
        normed = norm.normalise(_sum(states, index, index))[0] * norm.weight.float()
        if norm.bias is not None:
            normed = normed + norm.bias.float()
        new = x.clone()
        for projection in projections:
            value = torch.einsum("bpd,hdk->bphk", normed, projection.weight.float())
            if projection.bias is not None:
                value = value + projection.bias.float()
            new[..., projection.features] = value.flatten(-2).to(x.dtype)
        return new

    return edit


def _moves_its_heads(model: HookedModel, batch: PairBatch, projection: Projection) -> bool:
    """Whether disturbing the port's last head at the second position moves what it should."""
    at, layout = 1, model.layout
    group = 1 if projection.port == "q" else layout.n_heads // projection.n_heads
    push = torch.linspace(-3.0, 3.0, projection.weight.shape[-1], device=model.device)

    def disturb(output: Tensor) -> Tensor:
        new = output.clone()
        heads = new[..., projection.features].view(*new.shape[:-1], projection.n_heads, -1)
        where = slice(None) if projection.port == "v" else slice(at, at + 1)
        heads[:, where, -1] += push.to(new.dtype)
        return new

    before, after = SourceStates(model.view), SourceStates(model.view)
    for states, edit in ((before, None), (after, disturb)):
        hooks = Hooks()
        states.record(hooks)
        if edit is not None:
            hooks.after(projection.module, edit)
        with torch.no_grad():
            model.logits(batch.clean, batch, hooks)
    moved = (after.z[0] - before.z[0]).float()  # batch, position, head, d_head
    mine, others = moved[:, :, -group:], moved[:, :, :-group]
    if others.any():
        return False
    if projection.port == "v":
        return bool(torch.allclose(mine, push.expand_as(mine), atol=0.05))
    places = mine.abs().amax(dim=(0, 2, 3)) > 0
    if projection.port == "q":
        return bool(places[at]) and int(places.sum()) == 1
    return not places[:at].any() and bool(places[at + 1 :].any())


def _from_corrupted(model: HookedModel, batch: PairBatch) -> Hooks:
    """Every reader's value from a run on the corrupted tokens."""
    record, replay = Hooks(), Hooks()
    values: dict[tuple[int, bool], Tensor] = {}

    def tap(module: torch.nn.Module, before: bool) -> None:
        key = (id(module), before)

        def keep(x: Tensor) -> None:
            values[key] = x.detach()

        (record.before if before else record.after)(module, keep)
        (replay.before if before else replay.after)(module, lambda _: values[key])

    for layer in model.view.layers:
        for module in layer.modules:
            tap(module, before=False)
        tap(layer.mlp_norm.module, before=True)
    tap(model.view.final_norm, before=True)
    model.logits(batch.corrupted, batch, record)
    return replay
