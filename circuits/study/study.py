"""One object for a model and a task: thin over the functions, it keeps what they return."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import tasks
from circuits.attribution import attribute
from circuits.attribution import method as method_of
from circuits.comparison import Evolution, compare
from circuits.errors import CircuitsError
from circuits.evaluation import (
    CircuitEvaluation,
    EvalConfig,
    RankingTrials,
    choose_ranking,
    evaluate,
    task_performance,
)
from circuits.format import count, counted, duration, estimate
from circuits.graph import Circuit, EdgeScores, select
from circuits.graph.findings import TaskPerformance
from circuits.graph.levels import size_of_fraction
from circuits.models import HookedModel
from circuits.options.choices import RankingOrAuto
from circuits.options.evaluation import StabilityConfig
from circuits.options.run import RunOptions
from circuits.study.summary import Summary
from tasks.most import most_pairs
from tasks.named_splits import Split
from tasks.pairs import PairSet
from tasks.skipping import described
from tasks.task import Task

T = TypeVar("T")

_CHOOSE = 16
"""Pairs that the ranking is chosen on."""


@dataclass
class Step:
    """Something that was done. outcome: what came out, in words. on: which pairs."""

    name: str
    outcome: str = ""
    on: str = ""
    seconds: float = 0.0


class Study:
    """A model on a task, and what was found out so far.

        study = circuits.Study("newsroom-gpt2", "newsroom")
        study.discover()
        study.evaluate()
        print(study.summary())

    Edges are scored on pairs of the task's split train, the ranking is chosen on validation, and
    circuits are judged on test, so no pair is used twice. Each step says what came out and how long
    it took.

    Attributes:
        model: the model.
        task: the task.
        options: batches, seed and progress of every step.
        steps: what was done, in order.
        pairs: the pairs of each role: "score", "choose", "evaluate".
        performance: how well the model does the task; None before `discover`.
        comparisons: what `compare` found, by the other model's name.
    """

    def __init__(
        self,
        model: HookedModel | str,
        task: Task | str,
        *,
        options: RunOptions | None = None,
        quiet: bool = False,
    ) -> None:
        """Load what is given by name.

        Args:
            model: a model, or where it is: hub id, folder, "newsroom-gpt2", ...
            task: a task, or its name; one with options is made by `tasks.load`.
            options: batches, seed and progress of every step.
            quiet: say nothing while working.
        """
        self.model = HookedModel.from_pretrained(model) if isinstance(model, str) else model
        self.task = tasks.load(task) if isinstance(task, str) else task
        self.options = options or RunOptions()
        self.steps: list[Step] = []
        self.pairs: dict[str, PairSet] = {}
        self.performance: TaskPerformance | None = None
        self.comparisons: dict[str, Evolution] = {}
        self._quiet = quiet
        self._scores: EdgeScores | None = None
        self._circuit: Circuit | None = None
        self._evaluation: CircuitEvaluation | None = None

    @property
    def scores(self) -> EdgeScores:
        """Every edge's score, once `discover` made them."""
        return _made(self._scores, "no edge is scored yet; call discover()")

    @property
    def circuit(self) -> Circuit:
        """The circuit, once `discover` chose it."""
        return _made(self._circuit, "no circuit is chosen yet; call discover()")

    @property
    def evaluation(self) -> CircuitEvaluation:
        """How far the circuit holds, once `evaluate` measured it."""
        return _made(self._evaluation, "the circuit is not judged yet; call evaluate()")

    def discover(
        self,
        n: int = 32,
        *,
        size: int | float = 0.1,
        ranking: RankingOrAuto = "auto",
        method: str = "eap-ig",
        **settings: object,
    ) -> Circuit:
        """Score every edge, choose the ranking on other pairs, and select a circuit.

        What was evaluated and compared before is forgotten: it was of other scores.

        Args:
            n: pairs to score on, of the split train; all that there are where those are fewer.
            size: of the circuit before pruning, a count of edges (int) or a share of all (float).
            ranking: what a score is worth; auto takes the ranking whose circuits are most faithful
                on 16 pairs of the split validation.
            method: of `circuits.attribute`.
            **settings: of the method, such as steps=5.

        Returns:
            The circuit, which is `circuit` from now on.
        """
        self.steps, self._evaluation, self.comparisons = [], None, {}
        with self._step("does the task") as step:
            pairs = self._take("score", "train", n)
            self.performance = task_performance(self.model, pairs, options=self.options)
            right = estimate(self.performance.accuracy, 2)
            step.outcome = f"accuracy {right}, guessing gives {self.performance.chance:.2f}"
            step.on = _on(pairs)
        with self._step("scores") as step:
            self._scores = attribute(
                self.model,
                pairs,
                method_of(method, **settings),
                options=self.options,
                per_example=True,
            )
            step.outcome = f"{count(self._scores.layout.n_edges)} edges by {method}"
            step.on = _on(pairs)
        with self._step("circuit") as step:
            self._circuit, step.on = self._select(self._scores, size, ranking)
            nodes = counted(len(self._circuit.nodes), "node")
            selection = self._circuit.provenance.selection
            ranking_note = "" if selection is None else f", {selection.ranking} ranking"
            step.outcome = f"{counted(len(self._circuit), 'edge')} between {nodes}{ranking_note}"
        return self._circuit

    def evaluate(self, n: int = 50, *, config: EvalConfig | None = None) -> CircuitEvaluation:
        """Judge the circuit on pairs that it was not made from.

        Args:
            n: pairs of the split test; all that there are where those are fewer.
            config: what is asked; None asks for faithfulness and stability.

        Returns:
            What was found, which is `evaluation` from now on.

        Raises:
            CircuitsError: before `discover`.
        """
        circuit, scores = self.circuit, self.scores
        with self._step("evaluation") as step:
            pairs = self._take("evaluate", "test", n)
            self._evaluation = evaluation = evaluate(
                self.model,
                scores,
                circuit,
                pairs,
                config=config or EvalConfig(stability=StabilityConfig()),
                options=self.options,
            )
            step.outcome, step.on = _judged(evaluation), _on(pairs)
        return evaluation

    def compare(self, other: HookedModel | str, *, name: str | None = None) -> Evolution:
        """Score another model on the same pairs, and say what differs.

        Args:
            other: a model of the same graph, such as a fine-tuned checkpoint, or where it is.
            name: what to call it; by default its own name.

        Returns:
            What changed from this study's model to the other.

        Raises:
            CircuitsError: before `discover`, and for a model of another graph.
        """
        scores = self.scores
        with self._step("comparison") as step:
            loaded = HookedModel.from_pretrained(other) if isinstance(other, str) else other
            name = name or loaded.name
            own_name = self.model.name if self.model.name != name else f"{name} (this study)"
            pairs = self.pairs["score"]
            other_scores = attribute(
                loaded,
                pairs,
                method_of(scores.method, **scores.provenance.settings),
                options=self.options,
                per_example=True,
            )
            evolution = compare(
                [scores, other_scores], names=[own_name, name], options=self.options
            )
            self.comparisons[name] = evolution
            step.name, step.outcome = f"beside {name}", evolution.facts["changed"]
            step.on = _on(pairs)
        return evolution

    def summary(self) -> Summary:
        """What was done so far.

        Returns:
            A table: `print` shows it in a frame, a notebook as a table.
        """
        title = f"{self.model.name} on {self.task.name}, {self.model.layout.summary}"
        rows = ((step.name, step.outcome, step.on, duration(step.seconds)) for step in self.steps)
        return Summary(title, tuple(rows))

    def _take(self, role: str, split: Split, n: int) -> PairSet:
        """Pairs for a role, of a split of its own."""
        pairs = most_pairs(
            self.task,
            self.model.tokenizer,
            n,
            split=split,
            seed=self.options.seed,
            n_ctx=self.model.n_ctx,
        )
        self.pairs[role] = pairs
        if pairs.skipped:
            self._say(f"{len(pairs)} rows kept, {described(pairs.skipped)}")
        return pairs

    def _select(
        self, scores: EdgeScores, size: int | float, ranking: RankingOrAuto
    ) -> tuple[Circuit, str]:
        """The circuit, and which pairs the ranking was chosen on."""
        n_edges = size if isinstance(size, int) else size_of_fraction(scores, size)
        if ranking != "auto":
            return select(scores, size=n_edges, ranking=ranking), ""
        choice_pairs = self._take("choose", "validation", _CHOOSE)
        trials = RankingTrials(n_edges)
        choice = choose_ranking(self.model, scores, choice_pairs, trials, options=self.options)
        circuit = choice.select(scores)
        assert isinstance(circuit, Circuit)
        return circuit, _on(choice_pairs)

    @contextmanager
    def _step(self, name: str) -> Iterator[Step]:
        """A step that is remembered, and told with its time, once it is done."""
        began = time.perf_counter()
        step = Step(name)
        yield step
        step.seconds = time.perf_counter() - began
        self.steps = [
            earlier_step for earlier_step in self.steps if earlier_step.name != step.name
        ] + [step]
        pairs_note = f" ({step.on})" if step.on else ""
        self._say(f"{step.name}: {step.outcome}{pairs_note}, {duration(step.seconds)}")

    def _say(self, line: str) -> None:
        if not self._quiet:
            sys.stdout.write(f"{line}\n")


def _made(value: T | None, advice: str) -> T:
    if value is None:
        raise CircuitsError(advice)
    return value


def _judged(evaluation: CircuitEvaluation) -> str:
    """The verdict in a line."""
    curves, circuit = evaluation.curves, evaluation.circuit
    if curves is None or circuit.faithfulness is None:
        return "faithfulness is undefined: clean and corrupted prompts give the same metric"
    random = curves.curves.get("random")
    control = "" if random is None else f" (random rankings {estimate(random.area_f, 2)})"
    return (
        f"the circuit keeps {estimate(circuit.faithfulness, 2)} of the behaviour; over all sizes "
        f"CPR {estimate(curves.cpr, 2)}{control}, CMD {estimate(curves.cmd, 2)}"
    )


def _on(pairs: PairSet) -> str:
    return f"{counted(len(pairs), 'pair')} ({pairs.split})"
