"""Is the circuit robust? f of the same circuit on other prompts.

Each condition is a pair set: other examples, another corruption or template of the task, or the
same prompts perturbed (`perturbations`). The control is a random circuit of as many edges (nodes,
neurons), on the same prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from circuits.errors import CircuitsError, UndefinedMetricError
from circuits.evaluation.answers import share_right
from circuits.evaluation.measure import Judged, faithfulness_from_means, measure
from circuits.graph import AnyCircuit
from circuits.graph.controls import random_circuit
from circuits.intervention.ablation import MeanActivations, require_linear
from circuits.models import HookedModel
from circuits.options.choices import Ablation
from circuits.options.run import RunOptions
from circuits.runtime.resume import Pieces
from circuits.statistics.estimate import Estimate, estimates
from tasks.pairs import PairSet


@dataclass(frozen=True)
class Accuracy:
    """How often answers are right (`answers.py`).

    model, corrupted: of the whole model, clean and corrupted. circuit, control: of the circuit and
        of a random one.
    """

    model: Estimate
    corrupted: Estimate
    circuit: Estimate
    control: Estimate


@dataclass(frozen=True)
class Condition:
    """f of the circuit and of the control under one condition.

    metric: its name. circuit, control: f; None where it is undefined.
    metric_clean, metric_corrupted: means over the clean and the corrupted runs of the whole model.
    undefined_reason: why there is no f, where clean and corrupted metric are equal.
    accuracy: how often circuit, control and model are right; None where f is undefined.
    """

    metric: str
    circuit: Estimate | None
    control: Estimate | None
    metric_clean: float | None = None
    metric_corrupted: float | None = None
    undefined_reason: str | None = None
    accuracy: Accuracy | None = None

    @classmethod
    def of(cls, measured: Judged, seed: int) -> Condition:
        """From runs of circuit and control, in this order.

        Args:
            measured: of these two, and perhaps of others behind them.
            seed: of the bootstrap.

        Returns:
            f and accuracy of both, with 95 % intervals over the examples.

        Raises:
            UndefinedMetricError: where clean and corrupted metric are equal in many resamples.
        """
        f_circuit, f_control = estimates(measured.of((0, 1)), faithfulness_from_means, seed=seed)
        right = [share_right(measured.right[:, column], seed) for column in range(4)]
        return cls(
            measured.metric,
            f_circuit,
            f_control,
            float(measured.clean.mean()),
            float(measured.corrupted.mean()),
            accuracy=Accuracy(
                model=right[0], corrupted=right[1], circuit=right[2], control=right[3]
            ),
        )

    @property
    def verdict(self) -> str:
        """What it says, in words."""
        if self.circuit is None or self.control is None:
            return f"nothing can be said: {self.undefined_reason}"
        text = (
            f"the circuit keeps {self.circuit.value:z.0%} of the behaviour (95 % interval "
            f"{self.circuit.low:z.0%} to {self.circuit.high:z.0%}), a random one of its size "
            f"{self.control.value:z.0%}"
        )
        if not self.circuit.above(self.control):
            text += "; that it keeps more than a random one is not shown"
        return text


def robustness(
    model: HookedModel,
    circuit: AnyCircuit,
    conditions: Mapping[str, PairSet],
    *,
    metric: str | None = None,
    ablation: Ablation | MeanActivations = "corrupted",
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> dict[str, Condition]:
    """Run one circuit on other prompts, beside a random circuit of its size.

    Args:
        model: the model of the circuit.
        circuit: of edges, nodes or neurons.
        conditions: prompt pairs by the name of the condition.
        metric: its name; None takes each condition's own.
        ablation: what stands in for what is left out, as for `measure`.
        options: batches, seed, progress; the seed is of the random circuit and of the bootstrap.
        resume: keeps what was measured until the whole is done.

    Returns:
        f of circuit and control for each condition; where clean and corrupted metric are equal, the
        reason why there is none.

    Raises:
        CircuitsError: where the metric or the ablation is not known.
    """
    options = options or RunOptions()
    control = random_circuit(circuit, seed=options.seed)
    outcomes = {}
    for name, pairs in conditions.items():
        try:
            measured = measure(
                model,
                pairs,
                [circuit, control],
                metric=metric,
                ablation=ablation,
                options=options,
                progress=f"robustness ({name})" if options.progress else None,
                resume=resume,
            )
            outcomes[name] = Condition.of(measured, options.seed)
        except UndefinedMetricError as error:
            outcomes[name] = Condition(
                metric or pairs.metric, None, None, undefined_reason=str(error)
            )
    return outcomes


def by_ablation(
    model: HookedModel,
    circuit: AnyCircuit,
    pairs: PairSet,
    ablations: Sequence[Ablation],
    *,
    metric: str | None = None,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> dict[str, Condition]:
    """Run one circuit with other things in the place of what it leaves out.

    Args:
        model: the model of the circuit.
        circuit: of edges, nodes or neurons.
        pairs: prompt pairs; means are over their clean prompts.
        ablations: what stands in, one after the other.
        metric: its name; None takes the pairs' own.
        options: as for `robustness`.
        resume: as for `robustness`.

    Returns:
        f of circuit and control by ablation; where the model takes no such ablation, or metrics
        are equal, the reason why there is none.

    Raises:
        CircuitsError: where the metric is not known.
    """
    outcomes: dict[str, Condition] = {}
    for ablation in ablations:
        try:
            if ablation != "corrupted":
                require_linear(model.view, ablation)
        except CircuitsError as error:
            reason = str(error)
            outcomes[ablation] = Condition(
                metric or pairs.metric, None, None, undefined_reason=reason
            )
            continue
        conditions: dict[str, PairSet] = {ablation: pairs}
        outcomes |= robustness(
            *(model, circuit, conditions),
            metric=metric,
            ablation=ablation,
            options=options,
            resume=resume,
        )
    return outcomes
