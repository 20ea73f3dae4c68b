"""Attention and hidden states of two models on the same text.

Both models read the clean prompts, answers included as far as they are fed. Every figure is a mean
over the positions of a document that are not padding, then over documents; the per-document values
(documents x layers x heads numbers) are all that is kept, and documents are what intervals
resample. Layer l's hidden state is the residual stream after block l; its update is what the block
adds. Cost: one forward pass of each model; the second's patterns are never all held at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.batching import over_batches
from circuits.errors import CircuitsError
from circuits.evolution import words
from circuits.evolution.attention import divergence, entropy, over_positions
from circuits.evolution.changes import number
from circuits.models import HookedModel
from circuits.statistics import mean_interval, resample_weights
from tasks.pairs import PairBatch, PairSet

Criterion = Literal["attention-kl", "entropy", "hidden-state"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
_PATTERN_BYTES = 2**29

_PER_HEAD = ("kl", "entropy", "entropy_against")
_PER_LAYER = ("cosine", "activation", "activation_against", "stream_change", "update_change")


@dataclass(frozen=True)
class Averages:
    """Means over documents with 95 % bootstrap intervals, any shape."""

    value: Float[Tensor, "*shape"]
    low: Float[Tensor, "*shape"]
    high: Float[Tensor, "*shape"]

    def to_dict(self) -> dict[str, Any]:
        """JSON form: nested lists."""
        return {name: tensor.tolist() for name, tensor in vars(self).items()}


@dataclass(frozen=True)
class Internals:
    """How a model's insides differ from another's, by document.

    name, against: the model (fine-tuned) and what it is held against (base).
    kl: KL(model || against) of attention, nats. entropy, entropy_against: of attention, nats.
    cosine: of the two hidden states. activation, activation_against: mean |hidden state|.
    stream_change, update_change: ||model - against|| / ||against|| of the hidden state after each
        block, which carries every earlier change along, and of the block's own update.
    """

    name: str
    against: str
    kl: Float[Tensor, "doc layer head"]
    entropy: Float[Tensor, "doc layer head"]
    entropy_against: Float[Tensor, "doc layer head"]
    cosine: Float[Tensor, "doc layer"]
    activation: Float[Tensor, "doc layer"]
    activation_against: Float[Tensor, "doc layer"]
    stream_change: Float[Tensor, "doc layer"]
    update_change: Float[Tensor, "doc layer"]
    resamples: int = 1000
    seed: int = 0

    def __len__(self) -> int:
        return len(self.kl)

    @property
    def identical(self) -> bool:
        """Whether neither attention nor hidden states differ beyond float32 rounding."""
        return bool(self.stream_change.max() <= 1e-5) and bool(self.kl.max() <= 1e-6)

    @property
    def entropy_change(self) -> Float[Tensor, "doc layer head"]:
        """Model less against: negative where attention grew sharper."""
        return self.entropy - self.entropy_against

    @property
    def heads_by_kl(self) -> list[tuple[str, float]]:
        """Every head with its mean divergence, largest first."""
        means = self.kl.mean(dim=0)
        heads = means.shape[1]
        order = means.flatten().argsort(descending=True, stable=True).tolist()
        return [
            (f"a{place // heads}.h{place % heads}", float(means.flatten()[place]))
            for place in order
        ]

    def averages(self, values: Float[Tensor, " doc *shape"]) -> Averages:
        """Mean over documents of any per-document values, with its interval."""
        weights = resample_weights(len(self), self.resamples, seed=self.seed)
        flat = values.reshape(len(self), -1)
        low, high = mean_interval(flat, weights)
        shape = values.shape[1:]
        return Averages(values.double().mean(dim=0), low.reshape(shape), high.reshape(shape))

    def falling_heads(self) -> Averages:
        """Share of heads whose mean entropy is lower in the model than in the other.

        The interval resamples documents (percentile: the share takes few values).
        """
        change = self.entropy_change.reshape(len(self), -1)
        weights = resample_weights(len(self), self.resamples, seed=self.seed)
        shares = (weights @ change < 0).double().mean(dim=1)
        low, high = shares.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
        return Averages((change.mean(dim=0) < 0).double().mean(), low, high)

    def layer_importance(self, criterion: Criterion) -> list[float]:
        """One number a layer, never negative: how much fine-tuning changed it.

        "attention-kl": mean KL of its heads, nats. "entropy": mean |entropy change| of its heads,
        nats. "hidden-state": relative change of the block's own update; the change of the hidden
        state itself only accumulates with depth and would name the last layers.
        """
        if criterion == "attention-kl":
            values = self.kl.mean(dim=(0, 2))
        elif criterion == "entropy":
            values = self.entropy_change.mean(dim=0).abs().mean(dim=1)
        elif criterion == "hidden-state":
            values = self.update_change.mean(dim=0)
        else:
            raise CircuitsError(f"unknown criterion {criterion!r}; known: {', '.join(CRITERIA)}")
        return [float(value) for value in values]

    def to_dict(self) -> dict[str, Any]:
        """JSON form: means and intervals; per-document values stay in the object."""
        measured = {
            name: self.averages(getattr(self, name)).to_dict()
            for name in (*_PER_HEAD, "entropy_change", *_PER_LAYER)
        }
        falling = {name: number(value) for name, value in vars(self.falling_heads()).items()}
        return {
            "model": self.name,
            "against": self.against,
            "documents": len(self),
            "resamples": self.resamples,
            "seed": self.seed,
            "identical": self.identical,
            **measured,
            "falling_heads": falling,
            "heads_by_kl": [{"head": head, "kl": value} for head, value in self.heads_by_kl],
            "importance": {name: self.layer_importance(name) for name in CRITERIA},
            "paragraph": self.paragraph(),
        }

    def paragraph(self) -> str:
        """The comparison in plain words."""
        return words.internals(self)


def internals(
    model: HookedModel,
    against: HookedModel,
    pairs: PairSet,
    *,
    batch_size: int | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Internals:
    """Run both models on the clean prompts and compare what goes on inside.

    Memory does not grow with the number of documents: one batch's attention patterns of `against`
    are held, at most 512 MB of them when the batch size is left open.
    Raises CircuitsError for models of different shapes.
    """
    _require_same(model, against)
    layout = model.layout
    if batch_size is None:
        longest = max(len(pair) for pair in pairs)
        batch_size = max(1, _PATTERN_BYTES // (4 * layout.n_layers * layout.n_heads * longest**2))
    kept: dict[str, Tensor] = {}

    def work(batch: PairBatch) -> dict[str, Tensor]:
        return _compare(model, against, batch)

    for batch, found in over_batches(pairs, work, batch_size=batch_size, device=model.device):
        for name, values in found.items():
            if name not in kept:
                kept[name] = values.new_zeros(len(pairs), *values.shape[1:], device="cpu")
            kept[name][batch.index.cpu()] = values.cpu()
    return Internals(model.name, against.name, **kept, resamples=n_bootstrap, seed=seed)


def _require_same(model: HookedModel, against: HookedModel) -> None:
    one, other = (
        f"{each.layout.summary}, {each.bridge.cfg.d_model} wide, {each.vocabulary} tokens"
        for each in (model, against)
    )
    if model.layout != against.layout or one != other:
        raise CircuitsError(
            f"{model.name} and {against.name} are models of different shapes: {one}; and {other}"
        )


def _compare(model: HookedModel, against: HookedModel, batch: PairBatch) -> dict[str, Tensor]:
    """Every per-document figure of one batch."""
    layers = model.layout.n_layers
    mask = batch.mask
    base: dict[str, Tensor] = {}
    _run(against, batch, lambda name, value: base.update({name: value}))
    found: dict[str, list[Tensor]] = {name: [] for name in (*_PER_HEAD, *_PER_LAYER)}
    stream: dict[str, Tensor] = {}  # this and the other model's stream entering the block

    def note(name: str, values: Float[Tensor, "batch *rest pos"]) -> None:
        found[name].append(over_positions(values, mask))

    def visit(name: str, value: Tensor) -> None:
        other = base.pop(name)
        if name.endswith("hook_pattern"):
            note("kl", divergence(value, other))
            note("entropy", entropy(value))
            note("entropy_against", entropy(other))
            return
        value, other = value.float(), other.float()
        if name.endswith("hook_out"):
            note("cosine", torch.cosine_similarity(value, other, dim=-1))
            note("activation", value.abs().mean(dim=-1))
            note("activation_against", other.abs().mean(dim=-1))
            note("stream_change", _relative(value, other))
            update = value - stream["model"], other - stream["against"]
            note("update_change", _relative(*update))
        stream.update(model=value, against=other)

    _run(model, batch, visit)
    assert not base
    assert all(len(values) == layers for values in found.values())
    return {name: torch.stack(values, dim=1) for name, values in found.items()}


def _relative(
    value: Float[Tensor, "batch pos d_model"], other: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos"]:
    """||value - other|| / ||other||; a vector shorter than 1e-6 counts as that long."""
    apart, size = (x.square().sum(dim=-1).sqrt() for x in (value - other, other))
    return apart / size.clamp_min(1e-6)


def _run(model: HookedModel, batch: PairBatch, visit: Callable[[str, Tensor], None]) -> None:
    """One forward pass of the bridge, `visit` called at each hook in the order of computation."""
    names = ["blocks.0.hook_in"]
    for layer in range(model.layout.n_layers):
        names += [f"blocks.{layer}.attn.hook_pattern", f"blocks.{layer}.hook_out"]

    def hook(tensor: Tensor, hook: Any) -> None:
        visit(hook.name, tensor)

    with torch.no_grad():
        model.bridge.run_with_hooks(
            batch.clean.to(model.device),
            attention_mask=batch.mask.long().to(model.device),
            fwd_hooks=[(name, hook) for name in names],
            return_type=None,
            logits_to_keep=1,
        )
