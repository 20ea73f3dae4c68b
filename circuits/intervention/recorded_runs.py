"""The clean and the corrupted run of a batch, recorded once for circuits in either direction.

Corrupting edges of the clean run and restoring edges of the corrupted one start from the same two
runs, exchanged. So two forward passes serve both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from jaxtyping import Float
from torch import Tensor, nn

from circuits.intervention.ablation import AblatedRun
from circuits.intervention.cached_modules import CachedModules
from circuits.models import HookedModel
from circuits.models.inputs import Prefix
from circuits.models.view import Layer, View
from tasks.pairs import PairBatch


@dataclass(frozen=True)
class RecordedRun:
    """One run.

    run: what every source gives and every reader reads. replay: what the modules give.
    logits: float32, at the batch's answer positions.
    """

    run: AblatedRun
    replay: CachedModules
    logits: Float[Tensor, "read vocab"]

    def tensors(self) -> Iterator[Tensor]:
        """All that it holds."""
        yield self.logits
        yield from self.run.tensors()
        yield from self.replay.tensors()


@dataclass(frozen=True)
class RecordedRuns:
    """Both runs of a batch.

    batch: without the positions that its prompts share. prefix: those. clean, corrupted: the runs.
    """

    batch: PairBatch
    prefix: Prefix | None
    clean: RecordedRun
    corrupted: RecordedRun

    @classmethod
    def of(cls, model: HookedModel, batch: PairBatch) -> RecordedRuns:
        """Run a batch clean and corrupted."""
        rest, prefix = model.share_prefix(batch)
        runs = []
        for side in (_swapped(rest), rest):
            replay = replayable(model.view)
            with replay.recording():
                run, logits = AblatedRun.corrupted(model, side, prefix)
            runs.append(RecordedRun(run, replay, logits))
        return cls(rest, prefix, *runs)

    def tensors(self) -> Iterator[Tensor]:
        """All that both runs hold."""
        yield from self.clean.tensors()
        yield from self.corrupted.tensors()
        if self.prefix is not None:
            yield from self.prefix.tensors()

    def swapped(self) -> RecordedRuns:
        """The same runs, the corrupted one in the place of the clean one."""
        return RecordedRuns(_swapped(self.batch), self.prefix, self.corrupted, self.clean)


def _swapped(batch: PairBatch) -> PairBatch:
    return replace(batch, clean=batch.corrupted, corrupted=batch.clean)


def replayable(view: View) -> CachedModules:
    """The modules whose outputs runs side by side give back instead of computing them."""
    modules = chain.from_iterable(chain(*parts_of(layer)) for layer in view.layers)
    return CachedModules([*(layer.block for layer in view.layers), *modules])


def parts_of(layer: Layer) -> tuple[list[nn.Module], list[nn.Module]]:
    """Modules that end with what the heads write, and with what the MLP does, widest first.

    An attention before a norm of its own is not left out: that norm would be fed nothing new, and
    the heads' shares are divided by its scale as they pass.
    """
    heads, mlp = layer.attention, layer.mlp
    around = [
        module
        for module in layer.block.modules()
        if module not in (layer.block, mlp.hidden) and mlp.hidden in set(module.modules())
    ]
    return ([] if heads.post else [heads.module, heads.output]), [*around, mlp.output]
