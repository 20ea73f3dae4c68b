"""The places of a model that can be patched, and how each is read and written.

Everything that depends on where a model keeps its parts stands here. A site's value is
(batch, position, unit, width): units are heads, KV heads or neurons; a whole vector is one unit.

Two sites are no module's output:

- `resid_mid` is set through the attention output, which becomes (donor's middle - this run's
  stream before the layer).
- `pattern` is set through z, which becomes (donor's pattern) @ (this run's values): the same as an
  edit of the pattern itself, but attention stays SDPA and it works where models do not let their
  pattern be edited. The donor's pattern comes from one eager run, and is refused unless it
  reproduces that run's z.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from circuits.errors import CircuitsError
from circuits.graph.node import Node
from circuits.models import HookedModel
from circuits.models.hooks import Edit, Hooks
from circuits.models.view import Layer, Projection, View, input_size
from circuits.options.choices import SiteName
from tasks.pairs import PairBatch

Value = Float[Tensor, "batch pos unit width"]
PatchMask = Bool[Tensor, "batch pos unit"]


@dataclass(frozen=True)
class HookPoint:
    """A module's input or output, or one projection's heads in it; `units` side by side."""

    module: nn.Module
    before: bool
    units: int = 1
    projection: Projection | None = None

    def hook(self, hooks: Hooks, edit: Edit) -> None:
        """Add an edit of the module's input or output."""
        (hooks.before if self.before else hooks.after)(self.module, edit)

    def read(self, x: Tensor, rows: int) -> Value:
        """The site's value in a batch of so many rows (some modules see it flattened)."""
        batched = x.reshape(rows, -1, x.shape[-1])
        if self.projection is not None:
            return self.projection.heads(batched)
        return batched.reshape(*batched.shape[:2], self.units, -1)

    def with_value(self, x: Tensor, mask: PatchMask, value: Value) -> Tensor:
        """`x` with `value` where the mask is true; a new tensor."""
        new = torch.where(mask[..., None], value, self.read(x, len(mask)))
        if self.projection is None:
            return new.reshape(x.shape)
        output = x.reshape(*new.shape[:2], -1).clone()
        self.projection.heads(output).copy_(new)
        return output.reshape(x.shape)


@dataclass(frozen=True)
class Site:
    """A kind of place, one in each layer.

    unit: what its units are called; None for whole vectors. hook_point: where it is, in a layer.
    offset: layers between the site's own and the first one that it can change.
    needs_earlier: setting it needs the run's earlier positions, so the run cannot start at a
        later one.
    """

    name: SiteName
    about: str
    hook_point: Callable[[Layer], HookPoint]
    unit: str | None = None
    offset: int = 0
    needs_earlier: bool = False

    def record(
        self,
        model: HookedModel,
        batch: PairBatch,
        tokens: Int[Tensor, "batch pos"],
        layers: Sequence[int],
    ) -> dict[int, Value]:
        """The site's value in a run on `tokens`, by layer."""
        hooks = Hooks()
        by_layer = self.watch(hooks, model.view, len(tokens), layers)
        model.logits(tokens, batch, hooks)
        return by_layer

    def watch(self, hooks: Hooks, view: View, rows: int, layers: Sequence[int]) -> dict[int, Value]:
        """What fills, by layer, in a run of `rows` prompts that `hooks` are in place for."""
        by_layer: dict[int, Value] = {}

        def keep(layer: int, point: HookPoint, x: Tensor) -> None:
            by_layer[layer] = point.read(x, rows).clone()

        for layer in layers:
            point = self.hook_point(view.layers[layer])
            point.hook(hooks, partial(keep, layer, point))
        return by_layer

    def attach(self, hooks: Hooks, layer: Layer, mask: PatchMask, donor: Value) -> None:
        """Have the chosen units and positions of a layer take the donor's value."""
        point = self.hook_point(layer)
        point.hook(hooks, lambda x: point.with_value(x, mask, donor))


class _Middle(Site):
    """The stream between attention and MLP."""

    def record(
        self,
        model: HookedModel,
        batch: PairBatch,
        tokens: Int[Tensor, "batch pos"],
        layers: Sequence[int],
    ) -> dict[int, Value]:
        """The stream before the layer plus what attention adds."""
        if model.layout.parallel:
            raise CircuitsError(
                f"resid_mid: {type(model.hf).__name__} computes attention and MLP side by side, "
                "so there is no stream between them; use resid_pre or resid_post"
            )
        before = SITES["resid_pre"].record(model, batch, tokens, layers)
        added = super().record(model, batch, tokens, layers)
        return {layer: before[layer] + added[layer] for layer in layers}

    def attach(self, hooks: Hooks, layer: Layer, mask: PatchMask, donor: Value) -> None:
        """Set the attention output to what makes up the difference."""
        point, entering = self.hook_point(layer), _block_input(layer)
        stream: list[Value] = []

        def keep(x: Tensor) -> None:
            stream[:] = [entering.read(x, len(mask))]

        entering.hook(hooks, keep)
        point.hook(hooks, lambda x: point.with_value(x, mask, donor - stream[0]))


class _Pattern(Site):
    """Attention weights after the softmax; a head's row of a query position is one value."""

    def record(
        self,
        model: HookedModel,
        batch: PairBatch,
        tokens: Int[Tensor, "batch pos"],
        layers: Sequence[int],
    ) -> dict[int, Value]:
        """(batch, query, head, key), from an eager run."""
        mask = batch.mask.long() if batch.padded else None
        with _eager(model):
            z = SITES["z"].record(model, batch, tokens, layers)
            v = SITES["v"].record(model, batch, tokens, layers)
            patterns = model.hf.base_model(
                input_ids=tokens, attention_mask=mask, use_cache=False, output_attentions=True
            ).attentions
        by_layer = {}
        for layer in layers:
            pattern = None if patterns is None else patterns[layer]
            if pattern is None or not _makes(pattern, v[layer], z[layer], batch.mask):
                raise CircuitsError(
                    f"pattern: the attention weights that {type(model.hf).__name__} returns are "
                    "not what its heads' outputs are made with, so an edit of them would mean "
                    "nothing; use z, q or k"
                )
            by_layer[layer] = rearrange(pattern, "batch head query key -> batch query head key")
        return by_layer

    def attach(self, hooks: Hooks, layer: Layer, mask: PatchMask, donor: Value) -> None:
        """Set z to the donor's pattern times the values of this run."""
        point, values = self.hook_point(layer), _projection("v", layer)
        live: list[Value] = []

        def keep(x: Tensor) -> None:
            live[:] = [values.read(x, len(mask))]

        values.hook(hooks, keep)
        point.hook(
            hooks,
            lambda x: point.with_value(
                x,
                mask,
                _mixed(rearrange(donor, "batch query head key -> batch head query key"), live[0]),
            ),
        )


def _mixed(
    pattern: Float[Tensor, "batch head query key"], v: Float[Tensor, "batch key kv width"]
) -> Float[Tensor, "batch query head width"]:
    """z of each head; heads of one group share a KV head."""
    grouped = rearrange(
        pattern, "batch (kv group) query key -> batch kv group query key", kv=v.shape[2]
    )
    z = einsum(
        grouped.to(v.dtype),
        v,
        "batch kv group query key, batch key kv width -> batch query kv group width",
    )
    return rearrange(z, "batch query kv group width -> batch query (kv group) width")


def _makes(
    pattern: Float[Tensor, "batch head query key"],
    v: Float[Tensor, "batch key kv width"],
    z: Float[Tensor, "batch query head width"],
    mask: Bool[Tensor, "batch query"],
) -> bool:
    error = (_mixed(pattern, v) - z)[mask].abs().max()
    tolerance = 1e-4 if z.dtype == torch.float32 else 5e-2
    return bool(error <= tolerance * z[mask].abs().max())


@contextmanager
def _eager(model: HookedModel) -> Iterator[None]:
    """Attention that computes its pattern, for one run."""
    before = model.hf.config._attn_implementation
    model.hf.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.hf.set_attn_implementation(before)


def _block_input(layer: Layer) -> HookPoint:
    return HookPoint(layer.block, before=True)


def _projection(port: str, layer: Layer) -> HookPoint:
    projection = next(p for p in layer.attention.projections if p.port == port)
    return HookPoint(
        projection.module, before=False, units=projection.n_heads, projection=projection
    )


def reader_hook_point(view: View, node: Node) -> tuple[HookPoint, int]:
    """Where a reader of the graph reads, and which unit of it is the reader's."""
    if node.kind == "logits":
        return HookPoint(view.final, before=True), 0
    assert node.layer is not None
    layer = view.layers[node.layer]
    if node.port is None or node.head is None:
        return HookPoint(layer.mlp.reader, before=True), 0
    return _projection(node.port, layer), node.head


def _z(layer: Layer) -> HookPoint:
    return HookPoint(layer.attention.output, before=True, units=layer.attention.n_heads)


def _attention_output(layer: Layer) -> HookPoint:
    """What joins the stream: behind the norm after attention, where there is one."""
    attention = layer.attention
    return HookPoint(
        attention.output if attention.post is None else attention.post.module, before=False
    )


def _neurons(layer: Layer) -> HookPoint:
    """What enters the MLP's last matrix."""
    width = input_size(layer.mlp.hidden)
    return HookPoint(layer.mlp.hidden, before=True, units=width)


SITES: dict[str, Site] = {
    site.name: site
    for site in (
        Site("resid_pre", "residual stream before a layer", _block_input),
        _Middle(
            "resid_mid",
            "residual stream between attention and MLP",
            _attention_output,
        ),
        Site(
            "resid_post",
            "residual stream after a layer",
            lambda layer: HookPoint(layer.block, before=False),
            offset=1,
        ),
        Site(
            "attn_out",
            "what attention adds to the stream",
            _attention_output,
        ),
        Site(
            "mlp_out",
            "what the MLP adds to the stream",
            lambda layer: HookPoint(layer.mlp.output, before=False),
        ),
        Site("z", "each head's output, before the output matrix", _z, "head"),
        Site("q", "each head's query, before rotation", partial(_projection, "q"), "head"),
        Site("k", "each KV head's key, before rotation", partial(_projection, "k"), "KV head"),
        Site("v", "each KV head's value", partial(_projection, "v"), "KV head"),
        _Pattern("pattern", "each head's attention weights", _z, "head", needs_earlier=True),
        Site("neuron", "the MLP's hidden activations", _neurons, "neuron"),
    )
}
_SHORT = {"resid": "resid_pre", "head": "z"}


def site_named(name: str) -> Site:
    """The site of that name (`resid` is `resid_pre`, `head` is `z`); others are refused."""
    name = _SHORT.get(name, name)
    if name not in SITES:
        raise CircuitsError(f"unknown site {name!r}; known: {', '.join(SITES)}")
    return SITES[name]
