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
   and the scalars c are kept. MLP and logits readers keep the gradient at the stream.
3. Once for several steps, not once per step:
       score(u -> v) = sum_pos delta_u . (Wt G_v) - sum_pos,k (delta_u . xhat_k) c_{k,v},
   one matrix product per layer with an inner dimension of positions x d_model, in chunks of
   positions so that memory stays flat.

No parameter needs a gradient, the only leaves are the interpolated embeddings, logits exist only
where the metric reads them, and positions before the first difference are run once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.batch_scores import PathScores
from circuits.attribution.passes import Passes, Point, points_of
from circuits.attribution.quadrature import Rule
from circuits.metrics import Metric
from circuits.models import HookedModel, SourceStates, Wide
from circuits.models.hooks import Hooks
from circuits.models.norm import Norm
from circuits.models.view import Projection, ReadsHeads, ReadsInput, Stream, View
from tasks.pairs import PairBatch

_CHUNK_BYTES = 64 * 2**20  # of widened source outputs at a time
_STEPS_AT_ONCE = 6  # whose xhat are held at a time


def edge_scores(model: HookedModel, batch: PairBatch, metric: Metric, rule: Rule) -> PathScores:
    """Scores of every edge for every example of a batch, along the path that `rule` samples."""
    clean, corrupted = SourceStates(model.view), SourceStates(model.view)
    passes = Passes(model, batch, metric, clean.record, corrupted.record)
    runs = [clean.subtract(corrupted)] if model.view.linear else [clean, corrupted]
    del clean, corrupted
    return integrated(passes, runs, points_of(rule))


def integrated(passes: Passes, runs: list[SourceStates], points: list[Point]) -> PathScores:
    """Scores of every edge from the gradients at some points.

    runs: what the sources wrote, clean less corrupted; or both, where the view is not linear.
    """
    view, batch = passes.model.view, passes.batch
    scores = torch.zeros(len(batch), *view.layout.shape, device=batch.clean.device)
    integral, variation = torch.zeros_like(passes.clean), torch.zeros_like(passes.clean)
    gradients = ReaderGradients(view, passes.starts, min(len(points), _STEPS_AT_ONCE))
    for first in range(0, len(points), _STEPS_AT_ONCE):
        gradients.reset()
        some = passes.take(points[first : first + _STEPS_AT_ONCE], gradients.record)
        integral, variation = integral + some[0], variation + some[1]
        for stream, length in zip(view.streams, passes.lengths, strict=True):
            _contract(scores, stream, runs, gradients, length)
    count = torch.full_like(batch.index, len(points))
    return PathScores(scores, passes.clean, passes.corrupted, integral, variation, count)


@dataclass
class _Normed:
    """What one norm saw: xhat per step, and this step's sigma."""

    xhat: Float[Tensor, "step batch pos d_model"]
    sigma: Float[Tensor, "batch pos 1"] | None = None


class ReaderGradients:
    """What the backward passes leave behind: see step 2 of the module's docstring.

    projected: G of each attention's readers of a stream. c: for the rank-one correction, per step.
    wide: the gradient at the stream of each MLP's and the logits' reader. normed: what every norm
    in front of projections saw.
    """

    def __init__(
        self, view: View, like: list[Float[Tensor, "batch _ d_model"]], steps: int
    ) -> None:
        self.view = view
        self.projected: dict[ReadsHeads, Tensor] = {}
        self.c: dict[ReadsHeads, Tensor] = {}
        self.wide: dict[ReadsInput, Tensor] = {}
        self.normed: dict[Norm, _Normed] = {}
        for stream, inputs in zip(view.streams, like, strict=True):
            batch, length, width = inputs.shape
            zeros = partial(torch.zeros, device=inputs.device)
            for event in stream.events:
                if isinstance(event, ReadsInput):
                    self.wide[event] = zeros(batch, length, width)
                elif isinstance(event, ReadsHeads):
                    ports = event.span.stop - event.span.start
                    self.projected[event] = zeros(batch, length, ports, view.d_head)
                    if event.norm is not None:
                        self.c[event] = zeros(steps, batch, length, ports)
                        if event.norm not in self.normed:
                            self.normed[event.norm] = _Normed(zeros(steps, batch, length, width))

    def reset(self) -> None:
        """Forget all steps."""
        for total in (*self.projected.values(), *self.wide.values(), *self.c.values()):
            total.zero_()

    def record(self, hooks: Hooks, step: int, weight: float) -> None:
        """Add one point of the path, by the backward pass of the run that `hooks` serve."""
        for norm, seen in self.normed.items():
            hooks.before(norm.module, partial(self._normalised, norm, seen, step))
        for stream in self.view.streams:
            for event in stream.events:
                if isinstance(event, ReadsHeads):
                    for module, parts in event.modules.items():
                        hooks.after(module, self._projected(event, parts, step, weight))
                elif isinstance(event, ReadsInput):
                    hooks.before(event.module, self._branch(event, step, weight))

    def _normalised(self, norm: Norm, seen: _Normed, step: int, x: Tensor) -> None:
        seen.xhat[step], seen.sigma = norm.normalise(x.detach())

    def _projected(
        self, event: ReadsHeads, parts: list[tuple[Projection, slice]], step: int, weight: float
    ) -> Callable[[Tensor], None]:
        def attach(output: Tensor) -> None:
            value = output.detach()

            def on_gradient(gradient: Tensor) -> None:
                for projection, columns in parts:
                    heads = slice(columns.start - event.span.start, columns.stop - event.span.start)
                    g = projection.heads(gradient)
                    if event.norm is None:
                        self.projected[event][..., heads, :].add_(g, alpha=weight)
                        continue
                    sigma = self.normed[event.norm].sigma
                    assert sigma is not None
                    g = g * (weight / sigma[..., None])
                    self.projected[event][..., heads, :] += g
                    q = projection.heads(value).float() - _at_zero(projection, event.norm)
                    self.c[event][step, ..., heads] = (q * g).sum(-1) / self.view.d_model

            output.register_hook(on_gradient)

        return attach

    def _branch(self, event: ReadsInput, step: int, weight: float) -> Callable[[Tensor], Tensor]:
        """The gradient of one branch alone: the reader gets a view of what it reads, and the view
        is hooked.
        """

        def add(gradient: Tensor) -> None:
            total = self.wide[event]
            gradient = gradient.view(total.shape)
            if event.norm is not None:
                seen = self.normed[event.norm]
                assert seen.sigma is not None
                gradient = event.norm.pulled_back(gradient, seen.xhat[step], seen.sigma)
            total.add_(gradient, alpha=weight)

        def edit(x: Tensor) -> Tensor:
            branch = x.view_as(x)
            branch.register_hook(add)
            return branch

        return edit


def _at_zero(projection: Projection, norm: Norm) -> Float[Tensor, "head d_head"]:
    """q0: the projection's value where the normalised stream is zero."""
    weight = projection.weight
    value = weight.new_zeros(weight.shape[0], weight.shape[2], dtype=torch.float32)
    if norm.bias is not None:
        value = value + torch.einsum("d,hdk->hk", norm.bias.float(), weight.float())
    if projection.bias is not None:
        value = value + projection.bias.float()
    return value


def _contract(
    scores: Float[Tensor, "batch source reader"],
    stream: Stream,
    runs: list[SourceStates],
    gradients: ReaderGradients,
    lengths: Tensor,
) -> None:
    """Step 3: a stream's sources against its readers, example by example, chunk by chunk."""
    view = gradients.view
    per_position = 4 * len(stream) * view.d_model * len(runs)
    chunk = max(1, _CHUNK_BYTES // per_position)
    for example, positions in chunks(lengths, chunk):
        wide = Wide(stream, runs, (example, positions))
        for event in stream.events:
            if isinstance(event, ReadsInput):
                rows = view.layout.visible(event.column)
                gradient = gradients.wide[event][example, positions].flatten()
                delta = wide.seen(rows).flatten(1)
                scores[example, rows.start : rows.stop, event.column] += delta @ gradient
            elif isinstance(event, ReadsHeads):
                rows = view.layout.visible(event.span.start)
                part = scores[example, rows.start : rows.stop, event.span]
                part += _heads(wide.seen(rows), event, gradients, example, positions)
            wide.pass_by(event)


def chunks(lengths: Tensor, size: int) -> Iterator[tuple[int, slice]]:
    """Every example with its positions, `size` at a time; padding left out."""
    for example, length in enumerate(lengths.tolist()):
        for start in range(0, length, size):
            yield example, slice(start, min(start + size, length))


def _heads(
    delta: Float[Tensor, "source pos d_model"],
    event: ReadsHeads,
    gradients: ReaderGradients,
    example: int,
    positions: slice,
) -> Float[Tensor, "source port"]:
    """Scores into the q, k and v readers of one attention."""
    g = gradients.projected[event][example, positions].transpose(0, 1)
    weight = _reader_weight(event)
    gradient = torch.bmm(g, weight)
    direct = delta.flatten(1) @ gradient.flatten(1).T
    if event.norm is None:
        return direct
    xhat = gradients.normed[event.norm].xhat[:, example, positions]
    along = torch.einsum("upd,kpd->ukp", delta, xhat).flatten(1)
    return direct - along @ gradients.c[event][:, example, positions].flatten(0, 1)


def _reader_weight(event: ReadsHeads) -> Float[Tensor, "port d_head d_model"]:
    """Wt of all the readers, transposed to widen a d_head-wide gradient."""
    weight = torch.cat([projection.weight for projection in event.projections]).float()
    weight = weight.transpose(1, 2)
    if event.norm is None:
        return weight
    return event.norm.centred(weight * event.norm.weight.float())
