"""What is asked of the model: one article, its masked sentences, and what replaces them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from circuits.report.blocks import Article, Block, Method, Sentence, Text
from circuits.report.numbers import count
from circuits.report.run import AbsentError, Pair, Run


def article(run: Run) -> Iterator[Block]:
    """The article as a clipping, then the corrupted prompts."""
    example = run.json("pairs/example.json")
    sentences = [
        Sentence(one["text"], bool(one["salient"]), one.get("score"))
        for one in example.get("sentences", [])
    ]
    if not sentences:
        sentences = [Sentence(str(example.get("clean_prompt", "")), False, None)]
    segments = example.get("segments", {})
    variants = {
        name: _marked(example, text, segments.get(name))
        for name, text in example.get("corruptions", {}).items()
    }
    masked = sum(sentence.masked for sentence in sentences)
    yield Text(
        "The model reads an article and a cue and goes on with a summary. Each article has a "
        "corrupted twin of equal length, in which the sentences that the summary is made of are "
        "replaced. An edge of the model matters for the task as far as the metric falls when the "
        "edge carries what it would carry on the corrupted twin."
    )
    yield Article(
        caption="One article of the evaluation set. Marked: the "
        + ("sentence" if masked == 1 else f"{masked} sentences")
        + " that the summary needs and that every corruption changes; the number behind a sentence"
        " is its own ROUGE against the summary.",
        title=str(example.get("title", "")),
        sentences=sentences,
        summary=str(example.get("summary", "")),
        variants=variants,
        method=Method(
            steps=(
                "Sentences are marked by the task: the newsroom task knows which of its sentences "
                "it wrote the summary from; for other articles a greedy oracle adds the sentence "
                "that raises the ROUGE of the chosen ones against the summary the most.",
                "The score of a sentence is the mean F1 of ROUGE-1 and ROUGE-2 of that sentence "
                "alone against the whole summary.",
                "Only tokens of the marked sentences differ between a prompt and its twin; the "
                "summary is fed to both.",
            ),
            source="Nallapati, Zhai and Zhou (2017), SummaRuNNer; Liu and Lapata (2019).",
        ),
    )


def sizes(run: Run) -> Iterator[Block]:
    """How many pairs were used for what."""
    score = Pair.of(run, "score")
    evaluate = Pair.of(run, "evaluate") or Pair.of(run, "evaluation")
    if score is None or evaluate is None:
        raise AbsentError("evaluation.json does not say how many pairs were used.")
    yield Text(
        f"Edges were scored on {count(score.n)} pairs of the {score.split} split. Circuits were "
        f"then judged on {count(evaluate.n)} pairs of the {evaluate.split} split, none of which "
        "was used for scoring."
        if score.split != evaluate.split
        else f"Edges were scored on {count(score.n)} pairs and circuits judged on "
        f"{count(evaluate.n)}, both of the {score.split} split."
    )


def _marked(
    example: dict[str, Any], text: str, segments: Sequence[dict[str, Any]] | None
) -> list[tuple[str, bool]]:
    """The corrupted text in pieces, each with whether it was replaced."""
    if segments:
        return [(str(one["text"]), bool(one["corrupted"])) for one in segments]
    clean, corrupted = str(example.get("clean_prompt", "")).split(" "), text.split(" ")
    pieces = []
    for kind, _, _, start, end in SequenceMatcher(None, clean, corrupted, False).get_opcodes():
        if end > start:
            pieces.append((" ".join(corrupted[start:end]) + " ", kind != "equal"))
    return pieces
