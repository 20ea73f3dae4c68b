"""How the checkpoints came to be and how well each does the task."""

from __future__ import annotations

import re
from collections.abc import Iterator

from circuits.report.blocks import Block, Figure, Method, Table
from circuits.report.figures.training import quality_curves, training_curves
from circuits.report.numbers import count, signed
from circuits.report.run import Run

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
    saved = [int(found[1]) for name in run.order if (found := re.fullmatch(r"step-(\d+)", name))]
    stopped = " Training stopped early." if log.get("stopped_early") else ""
    yield Figure(
        caption=f"Fine-tuning, {count(len(log['steps']))} steps. Grey: the loss and the share of "
        "summary tokens predicted first, on each training batch; blue: on the validation set. "
        f"Dotted lines: the checkpoints compared in this report.{stopped}",
        views={"": training_curves(log, saved)},
        height=340,
        method=Method(
            steps=(
                "Cross entropy of the summary's tokens and the end-of-text token, given the "
                "article and the tokens before; nothing else is trained on.",
                "AdamW with a linear warm-up and cosine decay to zero; the settings stand in the "
                "recipe at the end of the page.",
            ),
        ),
    )


def quality(run: Run) -> Iterator[Block]:
    """The summaries of each checkpoint, held against the references."""
    found = run.part("evaluation.json", "quality")
    found = {name: found[name] for name in run.order if name in found}
    sizes = sorted({int(one["n"]) for one in found.values() if one.get("n")})
    n = " to ".join(count(size) for size in sizes) or "an unstated number of"
    method = Method(
        steps=(
            "Summaries are decoded greedily from the held-out articles. ROUGE is the F1 of the "
            "rouge-score package with stemming; exact match asks for the very text.",
            "Token accuracy and loss are teacher-forced: each token of the reference given those "
            "before it.",
        ),
        settings={"held-out articles": n},
        source="Lin (2004), ROUGE.",
    )
    yield Figure(
        caption=f"Quality of the summaries by checkpoint, means over {n} held-out articles.",
        views={"": quality_curves(found)},
        height=320,
        method=method,
    )
    yield Table(
        caption=f"The same in numbers; n = {n}. No intervals: per-article values are not kept in "
        "the run folder."
        if not any("low" in str(one) for one in found.values())
        else f"The same in numbers; n = {n}.",
        head=["checkpoint", *_COLUMNS.values()],
        views={
            "": [[name, *(signed(one.get(key)) for key in _COLUMNS)] for name, one in found.items()]
        },
    )
