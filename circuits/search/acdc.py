"""ACDC: remove every edge whose removal changes the metric by no more than a threshold.

1. Start from the whole graph.
2. Take the readers from the logits back to the input, against the order of computation.
3. Try the edges into a reader one by one, in a stated order: without it, run the circuit; if the
   metric changes by no more than the threshold, the edge stays out, else it is put back.
4. A reader whose node has lost every edge out of it loses all of its own, untried: no logit depends
   on them.

`nodes=True` tries heads and MLPs instead, each with all edges out of it, from the last to the
first.

Change is |after - before| ("absolute"), or before - after ("fall"), the paper's, under which an
edge that works against the behaviour goes too. The threshold is in the metric's units, or a share
of the metric before the trial (relative_to="current") or of the whole model's ("model").
Threshold 0 keeps just the edges whose removal changes the metric, infinity none.

Cost: one run of the layers from the reader's own on, for each trial; a reader's edges are guessed
ahead and run side by side (`speculation.py`, `stacked.py`). Nothing is approximated.
Source: Conmy et al. (2023), "Towards Automated Circuit Discovery for Mechanistic Interpretability",
algorithm 1.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from circuits.errors import CircuitsError
from circuits.graph import Circuit
from circuits.intervention.ablation import constants
from circuits.metrics import Metric, metric_for
from circuits.models import HookedModel
from circuits.provenance import describe_model, describe_pairs, versions
from circuits.search.result import Cost, Journal, Search, Step, plain, provenance_of
from circuits.search.speculation import decide
from circuits.search.trials import Trials
from circuits.search.walks import EdgeWalk, NodeWalk, Walk
from tasks.pairs import PairSet

RESOLUTION = 1e-5
CHANGES = ("absolute", "fall")
SCALES = (None, "current", "model")


@dataclass(frozen=True)
class Rule:
    """When what was removed is put back.

    threshold: the most that the metric may change. relative_to: None for the metric's own units.
    resolution: changes up to this, in the metric's units, are rounding and count as none.
    """

    threshold: float
    relative_to: str | None = None
    change: str = "absolute"
    resolution: float = RESOLUTION

    def __post_init__(self) -> None:
        if math.isnan(self.threshold) or self.threshold < 0:
            raise CircuitsError(f"threshold {self.threshold}: it must be 0 or more")
        if not (math.isfinite(self.resolution) and self.resolution >= 0):
            raise CircuitsError(f"resolution {self.resolution}: it must be 0 or more")
        if self.relative_to not in SCALES:
            raise CircuitsError(f"relative_to {self.relative_to!r}; known: None, current, model")
        if self.change not in CHANGES:
            raise CircuitsError(f"change {self.change!r}; known: {', '.join(CHANGES)}")

    def check(self, metric: Metric) -> None:
        """Refuse a share of a metric that is 0 for the whole model."""
        if self.relative_to is not None and metric.name == "kl-divergence":
            raise CircuitsError(
                "kl-divergence is 0 for the whole model, so no threshold can be a share of it; "
                "leave relative_to out"
            )

    def keeps(self, before: float, after: float, model: float) -> bool:
        """Whether the metric changed too much."""
        change = before - after if self.change == "fall" else abs(after - before)
        base = {None: 1.0, "current": abs(before), "model": abs(model)}[self.relative_to]
        limit = self.threshold if math.isinf(self.threshold) else self.threshold * base
        return change > limit + self.resolution


def acdc(
    model: HookedModel,
    pairs: PairSet,
    threshold: float,
    *,
    metric: str | None = None,
    relative_to: str | None = None,
    change: str = "absolute",
    resolution: float = RESOLUTION,
    nodes: bool = False,
    order: str = "backward",
    ablation: str = "corrupted",
    width: int | None = None,
    batch_size: int | None = None,
    resume: str | Path | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Search:
    """Search for the circuit of a behaviour by removing edges (or nodes) one at a time.

    metric: a name from `circuits.metrics`; None takes the pairs' own. The paper uses kl-divergence.
    resolution: changes up to this, in the metric's units, are rounding and count as none. The
        default is for float32 and logits of the usual size.
    order: of the edges into a reader: "backward" from the latest source to the input, "forward", or
        "random" by `seed`.
    ablation: what the sources of removed edges give instead: "corrupted", "mean" or
        "mean-positional" over the pairs' clean prompts, or "zero". The circuit is pruned under
        "corrupted" alone, where that changes no logit: elsewhere an edge that no path joins to the
        input carries what its source's inputs being constant leaves of it.
    width: circuits run side by side; None chooses by prompt length. Up to rounding it changes
        nothing but the time.
    journal: a file that a killed search goes on from; the result belongs there, by `Search.save`.
    """
    rule = Rule(threshold, relative_to, change, resolution)
    if width is not None and width < 1:
        raise CircuitsError(f"width {width}: it must be at least 1")
    judge = metric_for(pairs, metric)
    rule.check(judge)
    trials = Trials(
        model,
        pairs,
        judge,
        constants=constants(ablation, model, pairs),
        batch_size=batch_size,
        progress=progress,
    )
    walk = NodeWalk(model.layout) if nodes else EdgeWalk(model.layout, order, seed)
    width = width or trials.width
    details: dict[str, Any] = {
        "method": "acdc",
        "granularity": "nodes" if nodes else "edges",
        "settings": {
            **vars(rule),
            "threshold": plain(threshold),
            "order": order,
            "ablation": ablation,
            "width": width,
        },
        "pruned": ablation == "corrupted",
        "metric": judge.name,
        "batch_size": batch_size,
        "seed": seed,
        "data": describe_pairs(pairs).model_dump(mode="json"),
        "pairs": pairs.fingerprints,
        "model": describe_model(model).model_dump(mode="json"),
        "versions": versions().model_dump(),
    }
    search = _Searching(walk, trials, rule, width, Journal(resume, details))
    with tqdm(
        total=walk.size, desc="acdc", unit=walk.unit, disable=not progress, smoothing=0.05
    ) as bar:
        search.run(bar)
    circuit = Circuit(model.layout, walk.mask, None, provenance_of(details))
    return Search(
        circuit.pruned() if details["pruned"] else circuit,
        tuple(search.history),
        trials.full,
        trials.empty,
        search.current,
        Cost(
            decisions=len(search.history),
            untried=walk.size - len(search.history),
            **search.cost(),
            naive_layers=walk.size * sum(one.depth for one in trials.executors),
        ),
        details,
    )


class _Searching:
    """A search under way."""

    def __init__(self, walk: Walk, trials: Trials, rule: Rule, width: int, resume: Journal) -> None:
        self.walk, self.trials, self.rule, self.width = walk, trials, rule, width
        self.resume = resume
        self.history: list[Step] = []
        self.current = trials.full
        self.spent: dict[str, int] = {}
        # A source is guessed to fare as it did at the last reader; at first, to go.
        self.fate: dict[str, bool] = {}

    def run(self, bar: Any) -> None:
        """Walk through all groups, from the journal as far as it goes."""
        steps, self.spent = self.resume.read()
        recorded = deque(steps)
        for cuts in self.walk.groups():
            bar.update(self.walk.passed - bar.n)
            for step in self._recorded(cuts, recorded) if recorded else self._decided(cuts):
                self.history.append(step)
                self.fate[self.walk.source(step.name)] = step.kept
                if not step.kept:
                    self.walk.remove(self.walk.mask, step.name)
                    self.current = step.after
            left = int(self.walk.mask.sum())
            bar.set_postfix(edges=left, metric=f"{self.current:.4g}", refresh=False)
            if not recorded:
                self.resume.write(tuple(self.history), self.cost())
        bar.update(self.walk.passed - bar.n)

    def cost(self) -> dict[str, int]:
        """Runs and layers so far, those of a killed process included."""
        now = {"runs": self.trials.runs, "layers_run": self.trials.layers_run}
        return {name: count + self.spent.get(name, 0) for name, count in now.items()}

    def _recorded(self, cuts: list[str], recorded: deque[Step]) -> Iterator[Step]:
        for cut in cuts:
            step = recorded.popleft() if recorded else None
            if step is None or step.name != cut:
                raise CircuitsError(
                    f"{self.resume.path}: its trials are not those of this search; delete it"
                )
            yield step

    def _decided(self, cuts: list[str]) -> Iterator[Step]:
        for made in decide(
            cuts,
            self.current,
            self._measure,
            lambda before, after: self.rule.keeps(before, after, self.trials.full),
            width=self.width,
            guess=lambda cut: self.fate.get(self.walk.source(cut), False),
        ):
            yield Step(made.cut, made.before, made.after, made.kept)

    def _measure(self, sets: list[tuple[str, ...]]) -> list[float]:
        masks = []
        for cuts in sets:
            mask = self.walk.mask.clone()
            for cut in cuts:
                self.walk.remove(mask, cut)
            masks.append(mask)
        return self.trials(masks)
