"""Exact edge scores for the price of the model's own forward and backward passes.

Notation: x the residual stream that a reader reads, xhat and sigma its norm's output before the
weight gamma and scale, d = d_model; g the gradient of the metric at a q (or k, v) projection's
output, d_head wide; delta_u = clean - corrupted output of source u; k the points of the path.

1. Run clean and corrupted once; keep every source's delta, heads as z.
2. At each point k of the path, one forward and one backward pass. At each projection the backward
   pass hands over g, and
       dM/dx = Wt g / sigma - xhat c,   Wt = gamma * W (centred over d_model under LayerNorm),
       c = xhat . (Wt g) / (sigma d) = (q - q0) . g / (sigma d),
   with q the projection's output and q0 its value at xhat = 0. So only G = sum_k w_k g_k / sigma_k
   and the scalars c are kept. MLP and logits readers keep the gradient at their norm's input.
3. Once per batch, not once per step:
       score(u -> v) = sum_pos delta_u . (Wt G_v) - sum_pos,k (delta_u . xhat_k) c_{k,v},
   one matrix product per layer with an inner dimension of positions x d_model, in chunks of
   positions so that memory stays flat. Positions before the first difference have no delta and are
   left out.

No parameter needs a gradient, the only leaf is the interpolated embedding, and logits exist only
where the metric reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.quadrature import Rule
from circuits.metrics import Metric
from circuits.models import HookedModel, SourceStates
from circuits.models.hooks import Hooks
from circuits.models.view import Layer, Projection, View
from tasks.pairs import PairBatch

_CHUNK_BYTES = 64 * 2**20  # of widened source outputs at a time


@dataclass(frozen=True)
class BatchScores:
    """Scores of one batch.

    scores: float32, one matrix an example. clean, corrupted: the metric at both ends of the path.
    """

    scores: Float[Tensor, "batch source reader"]
    clean: Float[Tensor, " batch"]
    corrupted: Float[Tensor, " batch"]


def edge_scores(model: HookedModel, batch: PairBatch, metric: Metric, rule: Rule) -> BatchScores:
    """Scores of every edge for every example of a batch, along the path that `rule` samples."""
    clean, corrupted = SourceStates(model.view), SourceStates(model.view)
    with torch.no_grad():
        reference = _run(model, batch.clean, batch, clean)
        values = metric(reference, batch, reference)
        low = metric(_run(model, batch.corrupted, batch, corrupted), batch, reference)
    delta = clean - corrupted
    start, end = corrupted.start, clean.start
    del clean, corrupted
    gradients = ReaderGradients(model.view, len(rule.nodes), start)
    for step, (node, weight) in enumerate(zip(rule.nodes, rule.weights, strict=True)):
        leaf = torch.lerp(start, end, node).requires_grad_()
        hooks = Hooks()
        hooks.before(model.view.layers[0].block, partial(_instead, leaf))
        gradients.record(hooks, step, weight)
        with torch.enable_grad():
            logits = model.logits(batch.clean, batch, hooks)
            torch.autograd.grad(metric(logits, batch, reference).sum(), leaf)
    return BatchScores(_contract(delta, gradients, batch), values, low)


def _run(
    model: HookedModel, tokens: Tensor, batch: PairBatch, states: SourceStates
) -> Float[Tensor, "read vocab"]:
    hooks = Hooks()
    states.record(hooks)
    return model.logits(tokens, batch, hooks)


def _instead(leaf: Tensor, _: Tensor) -> Tensor:
    return leaf


class ReaderGradients:
    """What the backward passes leave behind: see step 2 of the module's docstring.

    projected: per layer, G for all its q, k, v readers. mlp, logits: gradients at the stream.
    xhat, c: per step and layer, for the rank-one correction.
    """

    def __init__(self, view: View, steps: int, like: Float[Tensor, "batch pos d_model"]) -> None:
        batch, length, width = like.shape
        layers = len(view.layers)
        ports = view.layout.n_heads + 2 * view.layout.n_kv_heads

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, device=like.device)

        self.view = view
        self.projected = [zeros(batch, length, ports, view.d_head) for _ in range(layers)]
        self.mlp = [zeros(batch, length, width) for _ in range(layers)]
        self.logits = zeros(batch, length, width)
        self.xhat = zeros(steps, layers, batch, length, width)
        self.c = zeros(steps, layers, batch, length, ports)

    def record(self, hooks: Hooks, step: int, weight: float) -> None:
        """Add one point of the path, by the backward pass of the run that `hooks` serve."""
        for index, layer in enumerate(self.view.layers):
            sigma: list[Tensor] = []
            hooks.before(layer.attention_norm.module, self._normed(layer, step, index, sigma))
            for module, projections in layer.modules.items():
                starts = [
                    self.view.layout.port_columns(0, projection.port).start
                    for projection in projections
                ]
                hooks.after(
                    module, self._projected(projections, starts, step, index, weight, sigma)
                )
            hooks.before(layer.mlp_norm.module, _branch_gradient(self.mlp[index], weight))
        hooks.before(self.view.final_norm, _branch_gradient(self.logits, weight))

    def _normed(
        self, layer: Layer, step: int, index: int, sigma: list[Tensor]
    ) -> Callable[[Tensor], None]:
        def keep(x: Tensor) -> None:
            xhat, scale = layer.attention_norm.normalise(x.detach())
            self.xhat[step, index] = xhat
            sigma.append(scale)

        return keep

    def _projected(
        self,
        projections: list[Projection],
        starts: list[int],
        step: int,
        index: int,
        weight: float,
        sigma: list[Tensor],
    ) -> Callable[[Tensor], None]:
        norm = self.view.layers[index].attention_norm

        def attach(output: Tensor) -> None:
            value = output.detach()

            def on_gradient(gradient: Tensor) -> None:
                for projection, start in zip(projections, starts, strict=True):
                    heads = slice(start, start + projection.n_heads)
                    shape = (*value.shape[:-1], projection.n_heads, -1)
                    q = value[..., projection.features].reshape(shape).float()
                    g = gradient[..., projection.features].reshape(shape).float()
                    g = g * (weight / sigma[0].unsqueeze(-1))
                    self.projected[index][..., heads, :] += g
                    offset = _at_zero(projection, norm.bias)
                    self.c[step, index][..., heads] = ((q - offset) * g).sum(-1) / self.view.d_model

            output.register_hook(on_gradient)

        return attach


def _branch_gradient(total: Tensor, weight: float) -> Callable[[Tensor], Tensor]:
    """The gradient of one branch alone: the norm reads a view of the stream, and the view is
    hooked.
    """

    def edit(x: Tensor) -> Tensor:
        branch = x.view_as(x)
        branch.register_hook(partial(_add, total, weight))
        return branch

    return edit


def _add(total: Tensor, weight: float, gradient: Tensor) -> None:
    total.add_(gradient.reshape(total.shape), alpha=weight)


def _at_zero(projection: Projection, norm_bias: Tensor | None) -> Float[Tensor, "head d_head"]:
    """q0: the projection's value where the normalised stream is zero."""
    weight = projection.weight
    value = weight.new_zeros(weight.shape[0], weight.shape[2], dtype=torch.float32)
    if norm_bias is not None:
        value = value + torch.einsum("d,hdk->hk", norm_bias.float(), weight.float())
    if projection.bias is not None:
        value = value + projection.bias.float()
    return value


def _contract(
    delta: SourceStates, gradients: ReaderGradients, batch: PairBatch
) -> Float[Tensor, "batch source reader"]:
    """Step 3: sources against readers, example by example, chunk of positions by chunk."""
    view = delta.view
    layout = view.layout
    scores = torch.zeros(len(batch), *layout.shape, device=delta.start.device)
    chunk = max(1, _CHUNK_BYTES // (4 * layout.shape[0] * view.d_model))
    weights = [_reader_weights(layer) for layer in view.layers]
    for example in range(len(batch)):
        length = int(batch.mask[example].sum())
        different = (batch.clean[example] != batch.corrupted[example]).nonzero()
        first = int(different[0]) if len(different) else length
        for start in range(first, length, chunk):
            positions = slice(start, min(start + chunk, length))
            wide = delta.widened(example, positions)
            _add_chunk(scores[example], wide, gradients, weights, example, positions)
    return scores * layout.mask.to(scores.device)


def _reader_weights(layer: Layer) -> Float[Tensor, "port d_head d_model"]:
    """Wt of all q, k, v readers of a layer, transposed to widen a d_head-wide gradient."""
    norm = layer.attention_norm
    weight = torch.cat([projection.weight for projection in layer.projections]).float()
    weight = weight * norm.weight.float()[:, None]
    if norm.kind == "layer":
        weight = weight - weight.mean(dim=1, keepdim=True)
    return weight.transpose(1, 2)


def _add_chunk(
    scores: Float[Tensor, "source reader"],
    wide: Float[Tensor, "source pos d_model"],
    gradients: ReaderGradients,
    weights: list[Float[Tensor, "port d_head d_model"]],
    example: int,
    positions: slice,
) -> None:
    layout = gradients.view.layout
    xhat = gradients.xhat[:, :, example, positions]
    along = torch.einsum("upd,klpd->lukp", wide, xhat)
    for layer, weight in enumerate(weights):
        columns = layout.attention_columns(layer)
        sees = layout.visible(columns.start)
        g = gradients.projected[layer][example, positions].transpose(0, 1)
        gradient = torch.bmm(g, weight)
        direct = wide[:sees].flatten(1) @ gradient.flatten(1).T
        c = gradients.c[:, layer, example, positions].flatten(0, 1)
        scores[:sees, columns] += direct - along[layer, :sees].flatten(1) @ c
        column = layout.mlp_column(layer)
        sees = layout.visible(column)
        gradient = gradients.mlp[layer][example, positions].flatten()
        scores[:sees, column] += wide[:sees].flatten(1) @ gradient
    gradient = gradients.logits[example, positions].flatten()
    scores[:, layout.logits_column] += wide.flatten(1) @ gradient
