"""What a reviewer asks of a circuit, and f with other things in the place of what is left out."""

from __future__ import annotations

from collections.abc import Iterator

from circuits.evaluation import doubts
from circuits.format import count, estimate, listed, typeset
from circuits.report.blocks import Block, Heading, Method, Note, Table
from circuits.report.run import Run
from circuits.report.sections.faithfulness import BOOTSTRAP, DEFINITION
from circuits.runs import MissingResultError


def answers(run: Run) -> Iterator[Block]:
    """Each question with its answer and control."""
    yield Heading("Doubts: what else could explain this?")
    by_checkpoint = {
        name: [*doubts(checkpoint)] for name, checkpoint in run.evaluation.checkpoints.items()
    }
    if not any(by_checkpoint.values()):
        raise MissingResultError("evaluation.json holds no answers to doubts.")
    yield Table(
        caption="What a reader may ask of each checkpoint's circuit. Intervals are 95 %.",
        head=["question", "answer"],
        views={
            name: [
                [question[:1].upper() + question[1:], typeset(answer)]
                for question, answer in questions
            ]
            for name, questions in by_checkpoint.items()
            if questions
        },
        method=Method(
            steps=(
                "Worst tenth: each example's share of the behaviour is measured in units of the "
                "mean behaviour, and the tenth with the least share is averaged.",
                "Another circuit: the best edges by the same scores, without those of the circuit. "
                "A model of shuffled weights: its weights are the model's own in another order; "
                "scoring and selection are repeated in it.",
                "Backups: the circuit is removed from the whole model, and nodes are looked for "
                "whose removal then costs more than before.",
                "Groups of prompts: 2-means of the scores of single examples, held against "
                "simulated clouds with one centre. A test that is rejected shows that the circuit "
                "is not ideal; a test that is not rejected does not show that it is.",
                BOOTSTRAP,
            ),
            source="Shi et al. (2024), Hypothesis Testing the Circuit Hypothesis in LLMs (tests); "
            "Liu et al. (2008), SigClust (groups).",
        ),
        chosen=[name for name, questions in by_checkpoint.items() if questions][-1],
    )
    if unasked := _unasked(run):
        yield Note(
            f"The recipe leaves out {listed(unasked)}. A run with these settings, in a folder of "
            "its own, asks it of every checkpoint; `circuits evaluate` asks it of one."
        )


_QUESTIONS = {
    "rivals": ("circuits that avoid this one", "{}"),
    "ablations": ("f with means or zeros in the place of what is left out", "[mean,zero]"),
    "backups": ("nodes that take over", "{}"),
    "null_model": ("the same in a model of shuffled weights", "{}"),
}


def _unasked(run: Run) -> list[str]:
    """What the run's recipe leaves out, each with the setting that asks it."""
    section = run.settings.get("evaluation")
    if not isinstance(section, dict):
        return []
    return [
        f"{words} (--set evaluation.{name}={value})"
        for name, (words, value) in _QUESTIONS.items()
        if name in section and not section[name]
    ]


def ablations(run: Run) -> Iterator[Block]:
    """f of the circuit by what stands in for what it leaves out."""
    by_checkpoint = {
        name: checkpoint.ablations
        for name, checkpoint in run.evaluation.checkpoints.items()
        if checkpoint.ablations
    }
    if not by_checkpoint:
        return
    n = next(
        (
            condition.circuit.n
            for conditions in by_checkpoint.values()
            for condition in conditions.values()
            if condition.circuit
        ),
        0,
    )
    yield Table(
        caption="The same circuit with other things in the place of what it leaves out, n = "
        f"{count(n)} examples. Means are over the clean prompts of these examples.",
        head=["in its place", "f of the circuit", "f of a random circuit", "accuracy", "random"],
        views={
            name: [
                [
                    ablation,
                    estimate(condition.circuit),
                    estimate(condition.control),
                    estimate(None if condition.accuracy is None else condition.accuracy.circuit, 2),
                    estimate(None if condition.accuracy is None else condition.accuracy.control, 2),
                ]
                for ablation, condition in conditions.items()
            ]
            for name, conditions in by_checkpoint.items()
        },
        method=Method(
            steps=(
                "corrupted: what the same place gives on the corrupted prompt. mean: its mean over "
                "prompts and positions; mean-positional: over prompts. zero: nothing.",
            ),
            formula=DEFINITION,
        ),
        chosen=list(by_checkpoint)[-1],
    )
    for name, conditions in by_checkpoint.items():
        for ablation, condition in conditions.items():
            if condition.undefined_reason:
                yield Note(f"{name}, {ablation}: {condition.undefined_reason}")
