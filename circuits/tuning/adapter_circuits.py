"""`lora_circuits.json`: does an adapter build the circuit that full fine-tuning builds?

Each adapter's circuit is held against the fully fine-tuned model's, beside what one model shares
with itself on other examples. The base's own overlap is the control: where even that lies within
noise, nothing can be told. An adapter on random layers, where there is one, is a second control.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from circuits.comparison.agreement import DRAWN
from circuits.comparison.circuit_similarity import SampleCounts
from circuits.comparison.overlap import Overlap, overlaps
from circuits.errors import CircuitsError
from circuits.graph import EdgeScores
from circuits.graph.provenance import DataRecord
from circuits.model_diff.attention_change import AttentionChange, attention_changes
from circuits.models import HookedModel
from circuits.options.comparison import ComparisonOptions
from circuits.options.run import RunOptions
from circuits.provenance import describe_pairs
from circuits.runtime.display import Plotted
from circuits.runtime.result_file import ResultFile
from circuits.runtime.resume import Pieces
from tasks.pairs import PairSet

if TYPE_CHECKING:
    import pandas as pd


class AdapterCircuits(Plotted, ResultFile):
    """Adapters beside a fully fine-tuned model.

    Attributes:
        base: name of the base model.
        tuned: name of the fully fine-tuned one.
        adapters: names of the adapters.
        method: attribution method of the scores.
        scored: which examples the edges were scored on.
        read: which examples attention was read on.
        n_resamples: bootstrap resamples of the examples that attention was read on.
        samples: random samples behind the overlaps.
        seed: of all resampling.
        overlaps: of the base and of each adapter with the fully fine-tuned model.
        attention: of the fully fine-tuned model and each adapter against the base, then of each
            adapter against the fully fine-tuned model.
    """

    KIND: ClassVar[str] = "lora-circuits"

    base: str
    tuned: str
    adapters: tuple[str, ...]
    method: str
    scored: DataRecord
    read: DataRecord
    n_resamples: int
    samples: SampleCounts
    seed: int
    overlaps: tuple[Overlap, ...]
    attention: tuple[AttentionChange, ...]

    def _facts(self) -> dict[str, str]:
        return {
            "adapters": ", ".join(self.adapters),
            "beside": f"{self.tuned}, fine-tuned from {self.base}",
            "scores": f"{self.method}, {self.scored.n} examples",
            "apart from it": ", ".join(self.apart) or "none that can be told",
        }

    def to_frame(self) -> pd.DataFrame:
        """The base and every adapter beside the fully fine-tuned model, a row each.

        Returns:
            Columns model, edges (of each circuit), jaccard (between the two models), ceiling
            (within one), gap, gap_low, gap_high, kl_to_base, kl_to_tuned (nats; NaN of the base to
            itself).
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "model": overlap.model,
                "edges": overlap.middle.size,
                "jaccard": overlap.middle.edge_jaccard.between,
                "ceiling": overlap.middle.edge_jaccard.within,
                "gap": overlap.middle.edge_jaccard.gap.value,
                "gap_low": overlap.middle.edge_jaccard.gap.low,
                "gap_high": overlap.middle.edge_jaccard.gap.high,
                "kl_to_base": float("nan")
                if overlap.model == self.base
                else self.attention_of(overlap.model, self.base).kl.value,
                "kl_to_tuned": self.attention_of(overlap.model, self.tuned).kl.value,
            }
            for overlap in self.overlaps
        )

    @property
    def apart(self) -> tuple[str, ...]:
        """Which of the base and the adapters have less of the fully fine-tuned model's circuit (of
        the middle size) than noise alone would leave them.
        """
        return tuple(
            overlap.model for overlap in self.overlaps if overlap.middle.edge_jaccard.below_ceiling
        )

    def overlap(self, model: str) -> Overlap:
        """The overlap of one model with the fully fine-tuned one.

        Args:
            model: the base's name, or an adapter's.

        Returns:
            The overlap.

        Raises:
            CircuitsError: for another name.
        """
        for overlap in self.overlaps:
            if overlap.model == model:
                return overlap
        models = ", ".join(overlap.model for overlap in self.overlaps)
        raise CircuitsError(f"{model} was not held against {self.tuned}; known: {models}")

    def attention_of(self, model: str, other: str) -> AttentionChange:
        """How far the attention of two models lies apart.

        Args:
            model: the name of one.
            other: the name of another, in either order.

        Returns:
            The change, of whichever of the two is the base.

        Raises:
            CircuitsError: where the two were not set side by side.
        """
        for change in self.attention:
            if {change.model, change.base} == {model, other}:
                return change
        raise CircuitsError(f"the attention of {model} and {other} was not compared")


def compare_adapter_circuits(
    scores: Mapping[str, EdgeScores],
    models: Mapping[str, Callable[[], HookedModel]],
    pairs: PairSet,
    *,
    base: str,
    tuned: str,
    settings: ComparisonOptions | None = None,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> AdapterCircuits:
    """Hold the circuits and the attention of adapters against a fully fine-tuned model's.

    Args:
        scores: of base, fully fine-tuned model and adapters by name, with `per_example`, all on the
            same examples.
        models: the same models; two at most are held at a time.
        pairs: whose clean prompts attention is read on.
        base: the base's name.
        tuned: the fully fine-tuned model's name.
        settings: sizes of the circuits, and bootstrap resamples of the prompts.
        options: batches, seed and progress.
        resume: keeps what was found until all is done.

    Returns:
        Overlaps with their ceilings, and divergences of attention.

    Raises:
        CircuitsError: where scores and models are not of the same names, with base and fully
            fine-tuned model among them, and for scores that cannot be paired (`compare`).
    """
    settings, options = settings or ComparisonOptions(), options or RunOptions()
    adapters = tuple(name for name in scores if name not in (base, tuned))
    if set(scores) != set(models) or len(adapters) != len(scores) - 2 or not adapters:
        raise CircuitsError(
            f"scores of {', '.join(scores)} and models {', '.join(models)}: give both of {base}, "
            f"of {tuned}, and of one adapter or more"
        )
    similarities = overlaps(scores, tuned, sizes=settings.sizes, options=options, resume=resume)
    data = scores[tuned].provenance.data
    assert data is not None  # `require_paired` has seen to it
    return AdapterCircuits(
        base=base,
        tuned=tuned,
        adapters=adapters,
        method=scores[tuned].method,
        scored=data,
        read=describe_pairs(pairs),
        n_resamples=settings.n_resamples,
        samples=DRAWN,
        seed=options.seed,
        overlaps=similarities,
        attention=attention_changes(
            models,
            (base, tuned),
            pairs,
            n_resamples=settings.n_resamples,
            options=options,
            resume=resume,
        ),
    )
