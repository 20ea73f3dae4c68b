"""`restoration.json`: what became of fine-tuning where neurons got the base's activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from circuits.errors import CircuitsError
from circuits.graph.provenance import DataRecord
from circuits.runtime.display import Displayed
from circuits.runtime.result_file import Record, ResultFile
from circuits.statistics.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd

SetKind = Literal["alone", "top", "greedy", "random", "control", "all"]


class RestoredSet(Record):
    """Neurons that were put back together.

    kind: how they were chosen (`circuits.model_diff.restoration`). size: how many they are.
    neurons: their names, `m2.n7` for neuron 7 of layer 2; none for all neurons of all MLPs.
    undone: the share of the change of the metric that they undo, with its 95 % interval.
    """

    kind: SetKind
    size: int
    neurons: tuple[str, ...]
    undone: Estimate


class Restoration(Displayed, ResultFile):
    """Sets of neurons that got the base's activations, and how much of fine-tuning each undoes.

    Attributes:
        model: name of the fine-tuned model.
        base: name of its base.
        metric: what is judged.
        data: which pairs sets are judged on.
        chosen_on: which pairs candidates, greedy sets and controls were chosen on.
        candidates: the neurons that changed most, in order.
        tuned: the metric of the fine-tuned model.
        original: that of the base.
        gained: tuned less original, paired by example.
        sets: every set, kind by kind, by size.
    """

    KIND: ClassVar[str] = "neuron-restoration"

    model: str
    base: str
    metric: str
    data: DataRecord
    chosen_on: DataRecord
    candidates: tuple[str, ...]
    tuned: Estimate
    original: Estimate
    gained: Estimate
    sets: tuple[RestoredSet, ...]

    def _facts(self) -> dict[str, str]:
        top, control = (self.of(kind)[-1] for kind in ("top", "control"))
        return {
            "models": f"{self.model} with activations of {self.base}",
            "metric": f"{self.metric}: {self.original} to {self.tuned}, {self.data.n} examples",
            "all neurons undo": str(self.of("all")[0].undone),
            f"the {top.size} that changed most": str(top.undone),
            "matched controls": str(control.undone),
        }

    def renamed(self, model: str, base: str) -> Restoration:
        """The same with other names of the two models.

        Args:
            model: the name of the fine-tuned model.
            base: the name of its base.

        Returns:
            A copy.
        """
        return self.model_copy(update={"model": model, "base": base})

    def of(self, kind: SetKind) -> tuple[RestoredSet, ...]:
        """The sets that were chosen in one way, by size.

        Args:
            kind: how.

        Returns:
            The sets.
        """
        return tuple(s for s in self.sets if s.kind == kind)

    def undone(self, kind: SetKind, size: int) -> tuple[Estimate, ...]:
        """How much the sets of one kind and size undo.

        Args:
            kind: how they were chosen.
            size: of each.

        Returns:
            Shares of the metric's change; several of random sets.

        Raises:
            CircuitsError: where no set of that kind has that size.
        """
        shares = tuple(s.undone for s in self.of(kind) if s.size == size)
        if not shares:
            sizes = ", ".join(str(s.size) for s in self.of(kind))
            raise CircuitsError(f"no {kind} set of {size} neurons; sizes: {sizes or 'none'}")
        return shares

    def to_frame(self) -> pd.DataFrame:
        """Every set, a row each.

        Returns:
            Columns kind, size, neurons, undone, low, high.
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "kind": restored.kind,
                "size": restored.size,
                "neurons": " ".join(restored.neurons),
                "undone": restored.undone.value,
                "low": restored.undone.low,
                "high": restored.undone.high,
            }
            for restored in self.sets
        )
