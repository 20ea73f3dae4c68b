"""The clean and the corrupted run of one batch, for as many sweeps as are made of it.

Each run, and what each kind of place holds in it, is made when it is first asked for and kept: a
second patch of the same prompts costs the layers behind it and no more. Kinds of places that are
known beforehand are recorded in the runs themselves, so that they cost no run of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.intervention.patching.base import ResumableRun
from circuits.intervention.patching.sites import SITES, Site, Value
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from circuits.options.choices import SiteName
from tasks.pairs import PairBatch

_log = logging.getLogger(__name__)

Side = Literal["clean", "corrupted"]


class PairedRuns:
    """Both runs of a batch.

    model, batch: what is run, and on what.
    """

    def __init__(
        self, model: HookedModel, batch: PairBatch, recorded: Sequence[SiteName] = ()
    ) -> None:
        """recorded: kinds of places that each run keeps as it is made, of every layer; no
        "resid_mid" and no "pattern", which one run does not show.
        """
        self.model, self.batch = model, batch
        self._recorded = [SITES[name] for name in recorded]
        self._bases: dict[Side, ResumableRun] = {}
        self._resumes: bool | None = None
        self._logits: dict[Side, Float[Tensor, "read vocab"]] = {}
        self._donors: dict[tuple[str, Side], dict[int, Value]] = {}

    @torch.no_grad()
    def base(self, side: Side) -> tuple[ResumableRun, bool]:
        """A run that others go on from, and whether they can go on from the middle of it."""
        if side not in self._bases:
            view, tokens, hooks = self.model.view, self._tokens(side), Hooks()
            for site in self._recorded:
                layers = range(len(view.layers))
                self._donors[site.name, side] = site.watch(hooks, view, len(tokens), layers)
            self._bases[side] = base = ResumableRun(self.model, self.batch, tokens, hooks)
            self._logits[side] = base.logits
        if self._resumes is None:  # whatever the tokens are
            self._resumes = self._bases[side].check_resumable()
            if not self._resumes:
                name = type(self.model.hf).__name__
                _log.warning("%s cannot go on from a cache; running it whole", name)
        return self._bases[side], self._resumes

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

    def tensors(self) -> Iterator[Tensor]:
        """All that is kept of both runs."""
        yield from self._logits.values()
        for base in self._bases.values():
            yield from base.tensors()
        for by_layer in self._donors.values():
            yield from by_layer.values()

    def _tokens(self, side: Side) -> Tensor:
        return self.batch.clean if side == "clean" else self.batch.corrupted
