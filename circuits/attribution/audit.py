"""Scores of the edges into some readers, point by point: what estimates of the error are made of.

All points together meet the sources once (see `engine`); one by one they would do so once each. So
the estimate looks at a few layers, which stand for all: a reader early in the model has a larger
error than a late one, hence layers at even distances. A calibrated rule needs every reader.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attribution.contraction import add_edge_scores, columns_of
from circuits.attribution.passes import Passes
from circuits.attribution.reader_gradients import ReaderGradients, Reads
from circuits.models import SourceActivations, View
from circuits.models.hooks import Hooks
from circuits.models.view import ReadsHeads, ReadsInput


class Audit:
    """Takes the scores at each point.

    columns: of the readers looked at. stands_for: as how many readers each counts.
    values: for each point a matrix (batch, source, reader looked at).
    """

    def __init__(self, passes: Passes, runs: list[SourceActivations], layers: int | None) -> None:
        """layers: to look at; None for all."""
        view = passes.model.view
        self.passes, self.runs, self.values = passes, runs, list[Tensor]()
        readers, self.stands_for = _chosen(view, layers)
        self.stands_for = self.stands_for.to(passes.batch.clean.device)
        self.columns: Int[Tensor, " some"] = self.stands_for.nonzero()[:, 0]
        self.gradients = ReaderGradients(view, passes.starts, 1, readers)

    def record(self, hooks: Hooks) -> None:
        """Watch the backward pass of one point."""
        self.gradients.reset()
        self.gradients.record(hooks, 0, 1.0)

    def meet(self) -> None:
        """After it: let the sources meet the readers."""
        view, batch = self.passes.model.view, len(self.passes.batch)
        scores = torch.zeros(batch, *view.layout.shape, device=self.columns.device)
        for stream, length in zip(view.streams, self.passes.lengths, strict=True):
            bytes_ = self.passes.model.weight_bytes
            add_edge_scores(scores, stream, self.runs, self.gradients, length, bytes_)
        self.values.append(scores[..., self.columns])


def _chosen(view: View, layers: int | None) -> tuple[set[Reads], Float[Tensor, " reader"]]:
    """Readers of layers at even distances, and as how many each counts; the logits' always."""
    place = {mlp.place.column: (mlp.place.encoder, mlp.place.layer) for mlp in view.mlps}
    for attention in view.attentions:
        where = (attention.place.encoder, attention.place.layer)
        place |= {columns.start: where for columns in attention.place.columns}
    looked: dict[tuple[bool, int], float] = {}
    for encoder in (False, True):
        all_ = sorted({where for where in place.values() if where[0] == encoder})
        count = len(all_) if layers is None else min(layers, len(all_))
        chosen = [all_[int((k + 0.5) * len(all_) / count)] for k in range(count)]
        looked |= dict.fromkeys(chosen, len(all_) / max(1, count))
    readers: set[Reads] = set()
    stands_for = torch.zeros(view.layout.shape[1])
    for stream in view.streams:
        for event in stream.events:
            if not isinstance(event, ReadsHeads | ReadsInput):
                continue
            columns = columns_of(event)
            layer = place.get(columns.start)
            counts = 1.0 if layer is None else looked.get(layer, 0.0)
            if counts:
                readers.add(event)
                stands_for[columns] = counts
    return readers, stands_for
