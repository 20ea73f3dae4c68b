"""Information-flow routes: how much of what a reader reads comes from each source.

    proximity(u, v)  = max(0, |x_v|_1 - |x_v - a_u|_1)
    importance(u, v) = proximity(u, v) / sum over sources w of proximity(w, v)

with x_v the residual stream that reader v reads and a_u the output of source u, at one position of
the clean run; the score is the mean over an example's positions. Never negative; a share without
units; the scores into one reader sum to 1 (or less, at positions where no source is near). The
metric and the corrupted prompt play no part, so every task on the same text has the same scores.

Source: Ferrando & Voita (2024), "Information Flow Routes: Automatically Interpreting Language
Models at Scale"; on the edges between heads and MLPs as in the EAP-IG repository and MIB, where the
q, k and v readers of a layer all read the same stream. Cost: two forward passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuits.attribution.engine import BatchScores
from circuits.attribution.method import AnyMetric, run_ends
from circuits.metrics import Metric
from circuits.models import HookedModel, SourceStates, View
from circuits.models.hooks import Hooks
from tasks.pairs import PairBatch

_CHUNK_BYTES = 32 * 2**20  # of widened source outputs at a time


@dataclass(frozen=True)
class InformationFlow(AnyMetric):
    """Proximity of each source's output to what the reader reads."""

    name: ClassVar[str] = "information-flow"

    def scores(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        progress: bool = False,  # noqa: ARG002 - two passes
    ) -> BatchScores:
        """Shares of every reader's input for every example."""
        states, hooks = SourceStates(model.view), Hooks()
        states.record(hooks)
        streams = _record_streams(model.view, hooks)
        clean, corrupted = run_ends(model, batch, metric, hooks)
        shape = model.layout.shape
        scores = torch.zeros(len(batch), *shape, device=model.device)
        chunk = max(1, _CHUNK_BYTES // (4 * shape[0] * model.view.d_model))
        for example in range(len(batch)):
            length = int(batch.mask[example].sum())
            for start in range(0, length, chunk):
                positions = slice(start, min(start + chunk, length))
                wide = states.widened(example, positions)
                for columns, (stream,) in streams:
                    sees = model.layout.visible(columns.start)
                    read = stream.view_as(states.start)[example, positions].float()
                    share = importance(wide[:sees], read)
                    scores[example, :sees, columns] += share.sum(dim=1)[:, None] / length
        return BatchScores(scores, clean, corrupted)


def importance(
    outputs: Float[Tensor, "source pos d_model"], stream: Float[Tensor, "pos d_model"]
) -> Float[Tensor, "source pos"]:
    """Each source's share of the stream; 0 where no source is near."""
    apart = torch.stack([(stream - output).abs().sum(dim=-1) for output in outputs])
    proximity = (stream.abs().sum(dim=-1) - apart).clamp(min=0)
    total = proximity.sum(dim=0)
    return proximity / total.where(total > 0, torch.ones_like(total))


def _record_streams(
    view: View, hooks: Hooks
) -> list[tuple[slice, list[Float[Tensor, "batch pos d_model"]]]]:
    """Columns of the readers of each stream, and a list that the run fills with that stream."""
    layout = view.layout
    streams: list[tuple[slice, list[Tensor]]] = []

    def watch(norm: nn.Module, columns: slice) -> None:
        values: list[Tensor] = []
        streams.append((columns, values))
        hooks.before(norm, lambda x: values.append(x.detach()))

    for index, layer in enumerate(view.layers):
        watch(layer.attention_norm.module, layout.attention_columns(index))
        mlp = layout.mlp_column(index)
        watch(layer.mlp_norm.module, slice(mlp, mlp + 1))
    watch(view.final_norm, slice(layout.logits_column, layout.logits_column + 1))
    return streams
