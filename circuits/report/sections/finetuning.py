"""How the checkpoints came to be and how well each does the task."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator

from markupsafe import Markup

from circuits.evaluation import Estimate, SummaryQuality
from circuits.format import count, interval, signed
from circuits.plot.figures.training import quality_curves, training_curves
from circuits.report.blocks import Block, Figure, Method, Table
from circuits.report.run import Run
from circuits.runs import MissingResultError
from circuits.tuning.training_log import TrainingLog

_COLUMNS = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "exact_match": "exact match",
    "token_accuracy": "token accuracy",
    "loss": "loss (nats a token)",
}


def curves(run: Run) -> Iterator[Block]:
    """Loss and accuracy while training."""
    log = run.training_log
    saved_steps = [
        int(match[1]) for name in run.order if (match := re.fullmatch(r"step-(\d+)", name))
    ]
    stopped = " Training stopped early." if log.stopped_early else ""
    stopped += _best(log, saved_steps)
    yield Figure(
        caption=f"Fine-tuning, {count(len(log.steps))} steps. Left: the loss. Right: the share "
        "of target tokens that the model predicts as the most likely. Grey: each training "
        "batch; blue: the validation set. Dotted lines are the checkpoints of this "
        f"report.{stopped}",
        views={"": training_curves(log, saved_steps)},
        height=340,
        method=Method(
            steps=(
                f"Cross entropy of {run.nouns.target}, given {run.nouns.given}; nothing else is "
                "trained on.",
                "The optimizer is AdamW, with a linear warm-up and a cosine decay to zero. The "
                "settings are in the recipe at the end of the page.",
            ),
        ),
    )


def _best(log: TrainingLog, saved_steps: Collection[int]) -> str:
    """Where the loss on the validation set was lowest, and whether that model is in the report."""
    best = log.best
    if best is None:
        return ""
    if best.step == 0:
        return " On the validation set the loss was lowest before training: the base model's."
    checkpoint = (
        f"checkpoint step-{best.step}" if best.step in saved_steps else "which was not saved"
    )
    location = f"at step {count(best.step)} ({best.loss:.3f})"
    return f" On the validation set the loss was lowest {location}, {checkpoint}."


def quality(run: Run) -> Iterator[Block]:
    """What each checkpoint writes, held against the references."""
    qualities = run.evaluation.quality
    if not qualities:
        raise MissingResultError("evaluation.json holds no quality.")
    n = " to ".join(count(size) for size in sorted({m.n for m in qualities.values()}))
    example, answers = run.nouns.example, run.nouns.answers
    unicode = max(measures.n_unicode for measures in qualities.values())
    method = Method(
        steps=(
            f"{answers.capitalize()} are decoded greedily from the held-out {example}s. ROUGE is "
            "the F1 of the rouge-score package with stemming; exact match is the share of "
            "answers that equal the reference.",
            "Token accuracy and loss are teacher-forced: each token of the reference is "
            "predicted from those before it.",
            f"Intervals are bootstrap intervals over {example}s.",
            *_other_scripts(unicode, n),
        ),
        settings={f"held-out {example}s": n},
        source="Lin (2004), ROUGE.",
    )
    yield Figure(
        caption=f"The {answers} by checkpoint, means over {n} held-out {example}s, with "
        "95 % intervals.",
        views={"": quality_curves(qualities)},
        height=320,
        method=method,
    )
    yield Table(
        caption=f"The same in numbers; n = {n}, with 95 % intervals.",
        head=["checkpoint", *_COLUMNS.values()],
        views={"": [[name, *_cells(measures)] for name, measures in qualities.items()]},
    )


def _cells(measures: SummaryQuality) -> Iterator[Markup | str]:
    """A checkpoint's figures, each over its interval."""
    for key in _COLUMNS:
        estimate: Estimate = getattr(measures, key)
        if math.isnan(estimate.low):
            yield signed(estimate.value)
        else:
            yield Markup("{}<small>{}</small>").format(signed(estimate.value), interval(estimate))


def _other_scripts(unicode: int, n: str) -> tuple[str, ...]:
    if not unicode:
        return ()
    return (
        f"For {unicode} of {n} references ROUGE counts words of any script, which the rouge-score "
        "package alone does not see. These figures cannot be compared with the literature's.",
    )
