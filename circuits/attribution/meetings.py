"""When what the passes leave behind meets the sources: each few passes, and once behind all."""

from __future__ import annotations

from collections.abc import Set

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attribution.contraction import Contraction
from circuits.attribution.passes import Passes
from circuits.attribution.reader_gradients import ReaderGradients, Reads, bytes_of_a_pass
from circuits.models import SourceActivations
from circuits.models.hooks import Hooks
from circuits.runtime.limits import PASS_VECTORS, chunk_bytes, held_passes


class Meetings:
    """Sources meet readers.

    As many passes are held as there is room for: to widen what the sources wrote costs as much for
    one as for several.
    """

    def __init__(
        self,
        passes: Passes,
        runs: list[SourceActivations],
        points: int,
        single: Set[Reads] = frozenset(),
        columns: Int[Tensor, " some"] | None = None,
    ) -> None:
        """runs: what the sources wrote, clean less corrupted; or both, where the view is not
        linear. points: how many passes there will be. single: readers whose scores each pass gives
        alone, unweighted, in `columns`; the others' are summed.
        """
        model, inputs = passes.model, passes.starts
        size, kind, self._most = model.weight_bytes, inputs[0].device.type, 1
        pass_bytes = (
            PASS_VECTORS
            * len(model.view.attentions)
            * sum(tensor.numel() * tensor.element_size() for tensor in inputs)
        )
        if passes.recompute:
            pass_bytes = 0  # and the less is to be held beside it
        else:
            left = bytes_of_a_pass(model.view, inputs, single)
            self._most = held_passes(size, pass_bytes, left, points)
        self._passes, self._columns, self._held = passes, columns, 0
        frozen = passes.rules.frozen_norms
        self._gradients = ReaderGradients(model.view, inputs, single, self._most, frozen=frozen)
        self._samples: list[Tensor] = []
        room = chunk_bytes(size, pass_bytes, kind)
        lengths = [tensor.tolist() for tensor in passes.lengths]
        readers: set[Reads] = {*self._gradients.projected, *self._gradients.wide}

        def contractions(direct: Set[Reads], n_passes: int, *, norms: bool) -> list[Contraction]:
            return [
                Contraction(
                    model,
                    stream,
                    runs,
                    self._gradients,
                    extents,
                    direct,
                    room,
                    norms=norms,
                    n_passes=n_passes,
                )
                for stream, extents in zip(model.view.streams, lengths, strict=True)
            ]

        self._of_passes = contractions(single, self._most, norms=not frozen)
        self._of_all = contractions(readers - single, 1, norms=False)
        self._total = self._none(1)

    def record(self, hooks: Hooks, weight: float) -> None:
        """Watch the backward pass of one point."""
        self._gradients.record(hooks, weight, self._held)

    def after_a_pass(self) -> None:
        """Let the sources meet what the last passes left behind, if no more of it can be held."""
        self._held += 1
        if self._held == self._most:
            self._meet()

    def _meet(self) -> None:
        if not self._held:
            return
        scores = self._none(self._held)
        for contraction in self._of_passes:
            contraction.add_to(scores)
        self._total += scores.sum(dim=0)
        if self._columns is not None:
            self._samples.append(scores[..., self._columns])
        self._gradients.clear()
        self._held = 0

    def of_each_pass(self) -> Float[Tensor, "point batch source some"]:
        """Scores of the single readers by each pass, unweighted."""
        self._meet()
        return torch.cat(self._samples)

    def of_all(self) -> Float[Tensor, "batch source reader"]:
        """Scores of the readers whose gradients are summed; single readers' mean nothing here."""
        self._meet()
        for contraction in self._of_all:
            contraction.add_to(self._total)
        return self._total[0]

    def _none(self, n_passes: int) -> Float[Tensor, "n_passes batch source reader"]:
        shape, batch = self._passes.model.view.layout.shape, self._passes.batch
        return torch.zeros(n_passes, len(batch), *shape, device=batch.clean.device)
