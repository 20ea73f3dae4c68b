"""Everything that is said of one circuit, as one record: what `evaluation.json` holds of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from circuits.errors import UndefinedMetricError
from circuits.evaluation.completeness import Completeness, completeness
from circuits.evaluation.faithfulness import faithfulness
from circuits.evaluation.measure import nothing_left
from circuits.evaluation.minimality import Minimality, minimality
from circuits.evaluation.reliability import FEWEST, reliability
from circuits.evaluation.robustness import robustness
from circuits.evaluation.stability import stability
from circuits.evaluation.units import units_inside
from circuits.graph import AnyCircuit, AnyScores
from circuits.graph.levels import select_size
from circuits.graph.orders import ORDERS
from circuits.intervention.ablation import MeanActivations
from circuits.models import HookedModel
from circuits.runtime.resume import Pieces, digest
from tasks.pairs import PairSet


@dataclass(frozen=True)
class EvalConfig:
    """What is asked beside the curve and the circuit's own faithfulness; None leaves a part out.

    minimality, completeness: numbers of pairs to ask it on, the first of the set. stability: number
    of resamples, where the scores hold single examples.
    """

    minimality: int | None = None
    minimality_controls: int = 50
    epsilon: float = 0.005
    completeness: int | None = None
    completeness_sets: int = 10
    stability: int | None = None


def evaluate(
    model: HookedModel,
    scores: AnyScores,
    circuit: AnyCircuit,
    pairs: PairSet,
    *,
    conditions: Mapping[str, PairSet] | None = None,
    questions: EvalConfig | None = None,
    metric: str | None = None,
    ablation: str | MeanActivations = "corrupted",
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
    resume: Pieces | None = None,
) -> dict[str, Any]:
    """The faithfulness curve of the scores, and what is asked of the circuit, as JSON values.

    circuit: as `select` or `select_nodes` made it from the scores, whose rule the curve follows; or
        any other, of which there is no stability.
    pairs: examples that the scores were not made from. conditions: other pair sets by name, for
    robustness. metric: None takes each pair set's own; a condition always does. ablation: as for
    `measure`. resume: keeps what was measured until the whole is done.

    Where clean and corrupted metric are equal, nothing can be said of the circuit: the record's
    `faithfulness` holds the reason as `undefined`, and the other parts are None or empty.
    """
    questions = questions or EvalConfig()
    shared: dict[str, Any] = {
        "ablation": ablation,
        "batch_size": batch_size,
        "seed": seed,
        "progress": progress,
        "resume": resume,
    }
    selection = circuit.provenance.selection
    choice = None if selection is None else selection.choice
    record: dict[str, Any] = {
        "circuit": {
            "level": circuit.level,
            "fraction": circuit.fraction,
            "nodes": len(circuit.nodes),
            f"{circuit.level}s": len(circuit),
            "faithfulness": None,
            "ablation": ablation if isinstance(ablation, str) else "means",
            "nothing_left": nothing_left(circuit, ablation),
            **({} if choice is None else {"choice": choice.to_dict()}),
        },
        "minimality": None,
        "completeness": None,
        "robustness": {},
        **(resume or Pieces()).value(
            {
                "stability": questions.stability,
                "seed": seed,
                "circuit": digest(circuit.mask),
                "scores": digest(scores.per_example) if resume else None,
            },
            lambda: _of_other_examples(scores, circuit, questions.stability, seed),
        ),
    }
    try:
        strategy = selection.strategy if selection and selection.strategy in ORDERS else None
        curve = faithfulness(model, scores, pairs, metric=metric, strategy=strategy, **shared)
    except UndefinedMetricError as error:
        return {**record, "faithfulness": {"undefined": str(error)}}
    own = robustness(model, circuit, {"evaluate": pairs}, metric=metric, **shared)
    found = own | robustness(model, circuit, conditions or {}, **shared)
    record["faithfulness"] = curve.to_dict()
    record["robustness"] = {name: one.to_dict() for name, one in found.items()}
    record["circuit"]["faithfulness"] = record["robustness"]["evaluate"]["circuit"]
    if record["circuit"]["nothing_left"]:
        return record
    if questions.minimality:
        record["minimality"] = _asked(
            lambda: minimality(
                model,
                circuit,
                pairs[: questions.minimality],
                metric=metric,
                epsilon=questions.epsilon,
                controls=questions.minimality_controls,
                **shared,
            )
        )
    if questions.completeness and units_inside(circuit, "nodes"):
        record["completeness"] = _asked(
            lambda: completeness(
                model,
                circuit,
                pairs[: questions.completeness],
                sets=questions.completeness_sets,
                metric=metric,
                **shared,
            )
        )
    return record


def _asked(question: Callable[[], Minimality | Completeness]) -> dict[str, Any]:
    """The answer, or why there is none on so few pairs."""
    try:
        return question().to_dict()
    except UndefinedMetricError as error:
        return {"undefined": str(error)}


def _of_other_examples(
    scores: AnyScores, circuit: AnyCircuit, n_resamples: int | None, seed: int
) -> dict[str, dict[str, Any] | None]:
    """Stability and reliability of the circuit's own selection, if these scores give it.

    Where single examples were not kept, the reliability is what the scoring said of its own size.
    """
    selection, n = circuit.provenance.selection, 0
    said = scores.provenance.reliability
    found: dict[str, dict[str, Any] | None] = {
        "stability": None,
        "reliability": None if said is None else said.to_dict(),
    }
    if scores.per_example is not None:
        n = len(scores.per_example)
    if n < 2 or selection is None or selection.size is None:
        return found
    size, prune = selection.size, selection.pruned
    how: dict[str, Any] = {
        "strategy": selection.strategy,
        "ranking": selection.ranking,
        "positive_ratio": selection.positive_ratio,
    }
    if not torch.equal(select_size(scores, size, **how, prune=prune).mask, circuit.mask):
        return found  # it was chosen from others
    if n_resamples:
        again = stability(scores, size=size, **how, prune=prune, n_resamples=n_resamples, seed=seed)
        found["stability"] = again.to_dict()
    if n >= FEWEST and size:
        found["reliability"] = reliability(scores, size=size, **how, seed=seed).to_dict()
    return found
