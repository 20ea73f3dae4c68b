"""All that is said of one circuit, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, replace
from typing import TypedDict, TypeVar

import torch

from circuits.errors import UndefinedMetricError
from circuits.evaluation.backups import Backups, backups
from circuits.evaluation.circuit_tests import CircuitTests, equivalence_test, independence_test
from circuits.evaluation.clusters import FEWEST as FEWEST_GROUPED
from circuits.evaluation.clusters import Clusters, clusters
from circuits.evaluation.completeness import Completeness, completeness
from circuits.evaluation.faithfulness import CurveConfig, faithfulness
from circuits.evaluation.knockout import components_inside, knocked_out
from circuits.evaluation.measure import Judged, degenerate_reason, measure
from circuits.evaluation.minimality import Minimality, minimality
from circuits.evaluation.reliability import FEWEST, reliability
from circuits.evaluation.results import OWN, CircuitEvaluation, CircuitSummary, Undefined
from circuits.evaluation.rivals import Rivals, avoiding, rivals
from circuits.evaluation.robustness import Condition, by_ablation, robustness
from circuits.evaluation.stability import Stability, stability
from circuits.evaluation.worst_examples import worst_examples
from circuits.graph import AnyCircuit, AnyScores
from circuits.graph.controls import random_circuit
from circuits.graph.findings import Reliability
from circuits.graph.levels import select_size
from circuits.graph.orders import ORDERS
from circuits.models import HookedModel
from circuits.options.choices import Ablation, Ranking, Strategy
from circuits.options.evaluation import EvalConfig
from circuits.options.run import RunOptions
from circuits.runtime.result_file import Record
from circuits.runtime.resume import Pieces, digest
from tasks.pairs import PairSet

R = TypeVar("R")

_REST = 2
"""The column of the whole model without the circuit, among the circuits run on its own pairs."""


class _FromExamples(Record):
    """What the scores of single examples say; no model is run for it."""

    stability: Stability | None = None
    reliability: Reliability | None = None
    clusters: Clusters | None = None


class _Shared(TypedDict):
    """What every measurement is given."""

    ablation: Ablation
    options: RunOptions
    resume: Pieces | None


class _Selection(TypedDict):
    """How the circuit was selected."""

    strategy: Strategy
    ranking: Ranking
    positive_ratio: float | None


def evaluate(
    model: HookedModel,
    scores: AnyScores,
    circuit: AnyCircuit,
    pairs: PairSet,
    *,
    config: EvalConfig | None = None,
    conditions: Mapping[str, PairSet] | None = None,
    options: RunOptions | None = None,
    resume: Pieces | None = None,
) -> CircuitEvaluation:
    """Measure the faithfulness curve of the scores, and how well one circuit stands.

    Where clean and corrupted metric are equal, nothing can be said of the circuit: `faithfulness`
    holds the reason, and other parts are None or empty.

    Args:
        model: the model that was scored, or another of the same graph.
        scores: of edges, nodes or neurons.
        circuit: as `select` or `select_nodes` made it from the scores, whose strategy the curve
            follows. A circuit from any other source is accepted too; stability is then not
            reported.
        pairs: prompt pairs that the scores were not made from.
        config: what is asked; None takes the defaults of `EvalConfig`.
        conditions: other pair sets by name, for robustness.
        options: batches, seed, progress.
        resume: keeps what was measured until the whole is done.

    Returns:
        Everything that was asked, with 95 % intervals over the pairs and random controls.

    Raises:
        CircuitsError: where metric or ablation are not known.
    """
    config, options = config or EvalConfig(), options or RunOptions()
    metric, ablation = config.metric, config.ablation
    shared: _Shared = {"ablation": ablation, "options": options, "resume": resume}
    from_examples = _FromExamples.model_validate(
        (resume or Pieces()).value(
            {
                "stability": None if config.stability is None else config.stability.n_resamples,
                "clusters": None if config.clusters is None else list(astuple(config.clusters)),
                "seed": options.seed,
                "circuit": digest(circuit.mask),
                "scores": digest(scores.per_example) if resume else None,
            },
            lambda: _of_examples(scores, circuit, config, options.seed),
        )
    )
    selection = circuit.provenance.selection
    summary = CircuitSummary(
        level=circuit.level,
        size=len(circuit),
        fraction=circuit.fraction,
        n_nodes=len(circuit.nodes),
        ablation=ablation,
        faithfulness=None,
        degenerate_reason=degenerate_reason(circuit, ablation),
        choice=None if selection is None else selection.choice,
    )
    strategy = None if selection is None else selection.strategy
    curve = CurveConfig(next((order for order in ORDERS if order == strategy), None))
    curves = _or_reason(
        lambda: faithfulness(model, scores, pairs, metric=metric, curve=curve, **shared)
    )
    if isinstance(curves, Undefined):
        return CircuitEvaluation(
            circuit=summary,
            faithfulness=curves,
            **dict(from_examples),
        )
    judged = _own(model, circuit, pairs, metric, shared)
    robust = {
        OWN: Condition.of(judged, options.seed),
        **robustness(model, circuit, conditions or {}, **shared),
    }
    summary = summary.model_copy(update={"faithfulness": robust[OWN].circuit})
    alive = summary.degenerate_reason is None
    minimality_config, completeness_config = config.minimality, config.completeness
    minimal: Minimality | Undefined | None = None
    complete: Completeness | Undefined | None = None
    rival_circuits: Rivals | Undefined | None = None
    backup_nodes: Backups | Undefined | None = None
    if alive and minimality_config is not None:
        minimal = _or_reason(
            lambda: minimality(
                model, circuit, pairs, config=minimality_config, metric=metric, **shared
            )
        )
    if (
        alive
        and completeness_config is not None
        and components_inside(circuit, completeness_config.level)
    ):
        complete = _or_reason(
            lambda: completeness(
                model, circuit, pairs, config=completeness_config, metric=metric, **shared
            )
        )
    rivals_config, backups_config = config.rivals, config.backups
    if alive and rivals_config is not None:
        rival_circuits = _or_reason(
            lambda: rivals(
                *(model, circuit, avoiding(scores, circuit, rivals_config), pairs),
                metric=metric,
                **shared,
            )
        )
    if alive and backups_config is not None:
        backup_nodes = _or_reason(
            lambda: backups(model, circuit, pairs, config=backups_config, metric=metric, **shared)
        )
    stood_in = {ablation: robust[OWN]} | by_ablation(
        *(model, circuit, pairs, [name for name in config.ablations if name != ablation]),
        metric=metric,
        options=options,
        resume=resume,
    )
    return CircuitEvaluation(
        circuit=summary,
        faithfulness=curves,
        minimality=minimal,
        completeness=complete,
        robustness=robust,
        ablations={name: stood_in[name] for name in config.ablations},
        worst=worst_examples(judged, [pair.source for pair in pairs], seed=options.seed),
        tests=CircuitTests(
            equivalence=equivalence_test(judged.clean, judged.circuits[:, 0]),
            independence=independence_test(
                *(judged.clean, judged.circuits[:, _REST], judged.corrupted), seed=options.seed
            ),
        ),
        rivals=rival_circuits,
        backups=backup_nodes,
        **dict(from_examples),
    )


def _own(
    model: HookedModel, circuit: AnyCircuit, pairs: PairSet, metric: str | None, shared: _Shared
) -> Judged:
    """Of the circuit, a random one, and the whole model without the circuit (`_REST`)."""
    full_circuit, options = circuit.with_all(), shared["options"]
    rest = replace(full_circuit, mask=full_circuit.mask & ~knocked_out(circuit))
    return measure(
        model,
        pairs,
        [circuit, random_circuit(circuit, seed=options.seed), rest],
        metric=metric,
        progress=f"robustness ({OWN})" if options.progress else None,
        **shared,
    )


def _or_reason(measured: Callable[[], R]) -> R | Undefined:
    """The answer, or why there is none on these pairs."""
    try:
        return measured()
    except UndefinedMetricError as error:
        return Undefined(undefined_reason=str(error))


def _of_examples(
    scores: AnyScores, circuit: AnyCircuit, config: EvalConfig, seed: int
) -> dict[str, object]:
    """Groups of the examples; stability and reliability of the circuit's own selection, if these
    scores give it; as JSON.

    Where single examples were not kept, the reliability is what the scoring said of its own size.
    """
    selection, stability_config = circuit.provenance.selection, config.stability
    from_examples = _FromExamples(reliability=scores.provenance.reliability)
    n = 0 if scores.per_example is None else len(scores.per_example)
    if n >= FEWEST_GROUPED and config.clusters is not None:
        groups = clusters(scores, config=config.clusters, seed=seed)
        from_examples = from_examples.model_copy(update={"clusters": groups})
    if n < 2 or selection is None or selection.size is None or selection.strategy == "threshold":
        return from_examples.model_dump(mode="json")
    size, prune = selection.size, selection.pruned
    selection_settings: _Selection = {
        "strategy": selection.strategy,
        "ranking": selection.ranking,
        "positive_ratio": selection.positive_ratio,
    }
    if not torch.equal(
        select_size(scores, size, **selection_settings, prune=prune).mask, circuit.mask
    ):
        return from_examples.model_dump(mode="json")  # it was chosen from others
    if stability_config is not None:
        n_resamples = stability_config.n_resamples
        stability_estimate = stability(
            scores, size=size, **selection_settings, prune=prune, n_resamples=n_resamples, seed=seed
        )
        from_examples = from_examples.model_copy(update={"stability": stability_estimate})
    if n >= FEWEST and size:
        reliability_estimate = reliability(scores, size=size, **selection_settings, seed=seed)
        from_examples = from_examples.model_copy(update={"reliability": reliability_estimate})
    return from_examples.model_dump(mode="json")
