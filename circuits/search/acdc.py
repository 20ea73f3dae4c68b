"""ACDC: remove every edge whose removal changes the metric by no more than a threshold.

1. Start from the whole graph.
2. Take the readers from the logits back to the input, against the order of computation.
3. Try the edges into a reader one by one, in a stated order: without it, run the circuit; if the
   metric changes by no more than the threshold, the edge stays out, else it is put back.
4. If every edge out of a node has been removed, the edges into it are removed as well, without a
   trial: the logits no longer depend on them. They still do where a norm stands behind attention
   (Gemma 2 and 3, OLMo 2), as the heads of a layer share its scale; what removing them changes is
   then counted with the edges that are tried next.

`level="node"` tries heads and MLPs instead, each with all edges out of it, from the last to the
first. `AcdcConfig` says what counts as a change, and of what the threshold is a share.

Cost: one run of the layers from the reader's own on, for each trial; a reader's edges are guessed
ahead and run side by side (`speculation.py`, `intervention.batched_runner`), exactly.
Source: Conmy et al. (2023), "Towards Automated Circuit Discovery for Mechanistic Interpretability",
algorithm 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tqdm.auto import tqdm

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Provenance
from circuits.intervention.ablation import constants
from circuits.metrics import metric_for
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.options.search import AcdcConfig
from circuits.provenance import describe_model, describe_pairs, versions
from circuits.search.removal_order import EdgeOrder, NodeOrder, RemovalOrder
from circuits.search.result import Cost, Journal, RunCost, Search, Step
from circuits.search.speculation import decide
from circuits.search.trials import Trials
from tasks.pairs import PairSet


def acdc(
    model: HookedModel,
    pairs: PairSet,
    config: AcdcConfig,
    *,
    metric: str | None = None,
    options: RunOptions | None = None,
    resume: str | Path | None = None,
) -> Search:
    """Search for the circuit of a behaviour by removing edges (or nodes) one at a time.

    Args:
        model: the model to search in.
        pairs: clean and corrupted prompts; the metric is averaged over them.
        config: the threshold, and every other setting of the search.
        metric: a name from `circuits.metrics`; None takes the pairs' own. The paper uses
            kl-divergence.
        options: batch size, the seed of a random order, and progress bar.
        resume: a file that a killed search continues from; the result belongs there, by
            `Search.save`.

    Returns:
        The circuit, every trial with the metric before and after, and what it cost.

    Raises:
        CircuitsError: for a metric that the pairs do not have, or a file of another search.
    """
    options = options or RunOptions()
    judge = metric_for(pairs, metric)
    if config.relative_to is not None and judge.name == "kl-divergence":
        raise CircuitsError(
            "kl-divergence is 0 for the whole model, so no tau can be a share of it; leave "
            "relative_to out"
        )
    trials = Trials(
        model,
        pairs,
        judge,
        constants=constants(config.ablation, model, pairs, engine=options.engine),
        batch_size=options.batch_size,
        progress=options.progress,
    )
    order: RemovalOrder
    if config.level == "node":
        order = NodeOrder(model.layout)
    else:
        order = EdgeOrder(model.layout, config.order, options.seed)
    config = replace(config, width=config.width or trials.width)
    provenance = Provenance(
        method="acdc",
        metric=judge.name,
        batch_size=options.batch_size,
        seed=options.seed,
        data=describe_pairs(pairs),
        pairs=tuple(pairs.fingerprints),
        model=describe_model(model),
        versions=versions(),
    )
    search = _Searching(order, trials, config, Journal(resume, config, provenance))
    with tqdm(
        total=order.size,
        desc="acdc",
        unit=config.level,
        disable=not options.progress,
        smoothing=0.05,
    ) as bar:
        search.run(bar)
    circuit = Circuit(model.layout, order.mask)
    circuit = circuit.pruned() if config.prunes else circuit
    metric_circuit = search.current
    if any(attention.post is not None for attention in model.view.attentions):
        # Edges that went without a trial changed it as well.
        trials.settle(model.layout.mask)
        (metric_circuit,) = trials([circuit.mask])
    spent = search.cost()
    return Search(
        layout=model.layout,
        edges=circuit.edges,
        history=tuple(search.history),
        metric_model=trials.full,
        metric_empty=trials.empty,
        metric_circuit=metric_circuit,
        cost=Cost(
            runs=spent.runs,
            layers_run=spent.layers_run,
            decisions=len(search.history),
            untried=order.size - len(search.history),
            naive_layers=order.size * sum(runner.depth for runner in trials.runners),
        ),
        config=config,
        provenance=provenance,
    )


class _Searching:
    """A search under way."""

    def __init__(
        self, order: RemovalOrder, trials: Trials, config: AcdcConfig, journal: Journal
    ) -> None:
        self.order, self.trials, self.config, self.journal = order, trials, config, journal
        self.width = config.width or trials.width
        self.history: list[Step] = []
        self.current = trials.full
        self.spent = RunCost()
        # A source is guessed to fare as it did at the last reader; at first, to go.
        self.fate: dict[str, bool] = {}

    def run(self, bar: tqdm) -> None:
        """Walk through all groups, from the journal as far as it goes."""
        steps, self.spent = self.journal.read()
        recorded = deque(steps)
        for candidates in self.order.groups():
            bar.update(self.order.n_done - bar.n)
            trials = self._recorded(candidates, recorded) if recorded else self._decided(candidates)
            for step in trials:
                self.history.append(step)
                self.fate[self.order.source(step.name)] = step.kept
                if not step.kept:
                    self.order.remove(self.order.mask, step.name)
                    self.current = step.after
            left = int(self.order.mask.sum())
            bar.set_postfix(edges=left, metric=f"{self.current:.4g}", refresh=False)
            if not recorded:
                self.journal.write(tuple(self.history), self.cost())
        bar.update(self.order.n_done - bar.n)

    def cost(self) -> RunCost:
        """Runs and layers so far, those of a killed process included."""
        return RunCost(
            runs=self.trials.runs + self.spent.runs,
            layers_run=self.trials.layers_run + self.spent.layers_run,
        )

    def _recorded(self, candidates: list[str], recorded: deque[Step]) -> Iterator[Step]:
        for candidate in candidates:
            step = recorded.popleft() if recorded else None
            if step is None or step.name != candidate:
                raise CircuitsError(
                    f"{self.journal.path}: its trials are not those of this search; delete it"
                )
            yield step

    def _decided(self, candidates: list[str]) -> Iterator[Step]:
        # Fewer are not worth a run; what they start from must not hang on where a search resumed.
        many = len(candidates) > self.width
        self.trials.settle(self.order.mask if many else self.order.layout.mask)
        for decision in decide(
            candidates,
            self.current,
            self._measure,
            lambda before, after: self.config.keeps(before, after, self.trials.full),
            width=self.width,
            guess=lambda candidate: self.fate.get(self.order.source(candidate), False),
        ):
            yield Step(decision.candidate, decision.before, decision.after, decision.kept)

    def _measure(self, sets: list[tuple[str, ...]]) -> list[float]:
        masks = []
        for candidates in sets:
            mask = self.order.mask.clone()
            for candidate in candidates:
                self.order.remove(mask, candidate)
            masks.append(mask)
        return self.trials(masks)
