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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.batch_scores import BatchScores
from circuits.attribution.method import MetricFree, run_clean_corrupted
from circuits.graph import Layout
from circuits.metrics import Metric
from circuits.models import DecomposedStream, HookedModel, SourceActivations
from circuits.models.hooks import Hooks
from circuits.models.view import Event, ReadsHeads, ReadsInput
from circuits.planning.costs import flow_phases, flow_work
from circuits.planning.jobs import CostModel
from circuits.runtime.limits import FLOW_CHUNK_BYTES
from tasks.pairs import PairBatch


@dataclass(frozen=True)
class InformationFlow(MetricFree):
    """Proximity of each source's output to what the reader reads."""

    name: ClassVar[str] = "information-flow"
    cost: ClassVar[CostModel] = CostModel(
        "information-flow", "shares of what each reader reads", flow_phases, flow_work
    )

    def scores(
        self,
        model: HookedModel,
        batch: PairBatch,
        metric: Metric,
        progress: bool = False,  # noqa: ARG002 - two passes
    ) -> BatchScores:
        """Shares of every reader's input for every example."""
        states, hooks = SourceActivations(model.view), Hooks()
        states.record(hooks)
        read: dict[Event, Tensor] = {}
        for stream in model.view.streams:
            for event in stream.events:
                if isinstance(event, ReadsHeads):
                    hooks.before(event.at, partial(_keep, read, event))
                elif isinstance(event, ReadsInput):
                    at = event.module if event.norm is None else event.norm.module
                    hooks.before(at, partial(_keep, read, event))
        clean, corrupted = run_clean_corrupted(model, batch, metric, hooks)
        scores = torch.zeros(len(batch), *model.layout.shape, device=model.device)
        lengths = model.model_inputs(batch.clean, batch).lengths
        for stream, extents in zip(model.view.streams, lengths, strict=True):
            chunk = max(1, FLOW_CHUNK_BYTES // (4 * len(stream) * model.view.d_model))
            for example, positions in _chunks(extents, chunk):
                wide = DecomposedStream(stream, [states], (example, positions))
                for event in stream.events:
                    if event in read:
                        rows, columns = _place(model.layout, event)
                        x = read[event].view(len(batch), -1, model.view.d_model)
                        share = importance(wide.seen(rows), x[example, positions].float())
                        part = scores[example, rows.start : rows.stop, columns]
                        part += share.sum(dim=1)[:, None] / extents[example]
                    wide.pass_by(event)
        return BatchScores(scores, clean, corrupted)


def _chunks(lengths: Tensor, size: int) -> Iterator[tuple[int, slice]]:
    """Every example with its positions, `size` at a time; padding left out."""
    for example, length in enumerate(lengths.tolist()):
        for start in range(0, length, size):
            yield example, slice(start, min(start + size, length))


def importance(
    outputs: Float[Tensor, "source pos d_model"], stream: Float[Tensor, "pos d_model"]
) -> Float[Tensor, "source pos"]:
    """Each source's share of the stream; 0 where no source is near."""
    apart = torch.stack([(stream - output).abs().sum(dim=-1) for output in outputs])
    proximity = (stream.abs().sum(dim=-1) - apart).clamp(min=0)
    total = proximity.sum(dim=0)
    return proximity / total.where(total > 0, torch.ones_like(total))


def _keep(values: dict[Event, Tensor], event: Event, x: Tensor) -> None:
    values[event] = x.detach()


def _place(layout: Layout, event: Event) -> tuple[range, slice]:
    """Rows that a reader sees, and its columns."""
    columns = event.span if isinstance(event, ReadsHeads) else slice(0, 0)
    if isinstance(event, ReadsInput):
        columns = slice(event.column, event.column + 1)
    return layout.visible(columns.start), columns
