"""Which readers' scores are taken point by point: what estimates of the error are made of.

All points together meet the sources once (see `engine`); one by one they do so once each. So the
estimate looks at a few layers, which stand for all: a reader early in the model has a larger error
than a late one, hence layers at even distances. A calibrated rule needs every reader.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attribution.contraction import columns_of
from circuits.attribution.reader_gradients import Reads
from circuits.models import View
from circuits.models.view import ReadsHeads, ReadsInput


def audited(view: View, layers: int | None) -> tuple[set[Reads], Float[Tensor, " reader"]]:
    """Readers of layers at even distances, and as how many each counts; the logits' always.

    layers: how many; None for all.
    """
    layer_of_column = {mlp.place.column: (mlp.place.encoder, mlp.place.layer) for mlp in view.mlps}
    for attention in view.attentions:
        where = (attention.place.encoder, attention.place.layer)
        layer_of_column |= {columns.start: where for columns in attention.place.columns}
    looked: dict[tuple[bool, int], float] = {}
    for encoder in (False, True):
        all_ = sorted({where for where in layer_of_column.values() if where[0] == encoder})
        count = len(all_) if layers is None else min(layers, len(all_))
        audited_layers = [all_[int((k + 0.5) * len(all_) / count)] for k in range(count)]
        looked |= dict.fromkeys(audited_layers, len(all_) / max(1, count))
    readers: set[Reads] = set()
    stands_for = torch.zeros(view.layout.shape[1])
    for stream in view.streams:
        for event in stream.events:
            if not isinstance(event, ReadsHeads | ReadsInput):
                continue
            columns = columns_of(event)
            layer = layer_of_column.get(columns.start)
            counts = 1.0 if layer is None else looked.get(layer, 0.0)
            if counts:
                readers.add(event)
                stands_for[columns] = counts
    return readers, stands_for
