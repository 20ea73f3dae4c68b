"""The clean and the corrupted run of one batch, for as many sweeps as are made of it.

Each run, and what each kind of place holds in it, is made when it is first asked for and kept: a
second patch of the same prompts costs the layers behind it and no more.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.intervention.patching.base import ResumableRun
from circuits.intervention.patching.sites import Site, Value
from circuits.models import HookedModel
from tasks.pairs import PairBatch

_log = logging.getLogger(__name__)

Side = Literal["clean", "corrupted"]


class PairedRuns:
    """Both runs of a batch.

    model, batch: what is run, and on what.
    """

    def __init__(self, model: HookedModel, batch: PairBatch) -> None:
        self.model, self.batch = model, batch
        self._bases: dict[Side, tuple[ResumableRun, bool]] = {}
        self._logits: dict[Side, Float[Tensor, "read vocab"]] = {}
        self._donors: dict[tuple[str, Side], dict[int, Value]] = {}

    @torch.no_grad()
    def base(self, side: Side) -> tuple[ResumableRun, bool]:
        """A run that others go on from, and whether they can go on from the middle of it."""
        if side not in self._bases:
            base = ResumableRun(self.model, self.batch, self._tokens(side))
            resumes = base.check_resumable()
            if not resumes:
                name = type(self.model.hf).__name__
                _log.warning("%s cannot go on from a cache; running it whole", name)
            self._bases[side] = base, resumes
            self._logits[side] = base.logits
        return self._bases[side]

    @torch.no_grad()
    def logits(self, side: Side) -> Float[Tensor, "read vocab"]:
        """What a run gives at the batch's answer positions."""
        if side not in self._logits:
            self._logits[side] = self.model.logits(self._tokens(side), self.batch)
        return self._logits[side]

    @torch.no_grad()
    def donor(self, site: Site, side: Side, layers: Sequence[int]) -> dict[int, Value]:
        """What a kind of place holds in a run, by layer."""
        values = self._donors.setdefault((site.name, side), {})
        missing = [layer for layer in layers if layer not in values]
        if missing:
            values |= site.record(self.model, self.batch, self._tokens(side), missing)
        return {layer: values[layer] for layer in layers}

    def _tokens(self, side: Side) -> Tensor:
        return self.batch.clean if side == "clean" else self.batch.corrupted
