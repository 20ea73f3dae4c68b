"""What is asked of the model: one example, and what its corrupted twins replace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from circuits.format import count
from circuits.report.blocks import Article, Block, Method, Sentence, Text
from circuits.report.nouns import ARTICLES
from circuits.report.run import Run
from circuits.runs import MissingResultError

_ARTICLES = (
    "The model reads an article and a cue and goes on with a summary. Each article has a "
    "corrupted twin of equal length, in which the sentences that the summary is made of are "
    "replaced."
)
_PROMPTS = (
    "The model reads a prompt and goes on with an answer. Each prompt has a corrupted twin of "
    "equal length."
)
_MATTERS = (
    " An edge of the model matters for the task as far as the metric falls when the edge carries "
    "what it would carry on the corrupted twin."
)


def example(run: Run) -> Iterator[Block]:
    """An article as a clipping, or a prompt; then the corrupted ones."""
    found = run.json("pairs/example.json")
    of_articles = run.words is ARTICLES
    yield Text((_ARTICLES if of_articles else _PROMPTS) + _MATTERS)
    yield _article(found) if of_articles else _prompt(found)


def _article(found: dict[str, Any]) -> Article:
    sentences = [
        Sentence(one["text"], bool(one["salient"]), one.get("score")) for one in found["sentences"]
    ]
    masked = sum(sentence.masked for sentence in sentences)
    return Article(
        caption="One article of the evaluation set. Marked: the "
        + ("sentence" if masked == 1 else f"{masked} sentences")
        + " that the summary needs and that every corruption changes; the number behind a sentence"
        " is its own ROUGE against the summary.",
        title=str(found.get("title", "")),
        sentences=sentences,
        answer=str(found.get("summary", "")),
        label="Summary",
        variants=_variants(found),
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


def _prompt(found: dict[str, Any]) -> Article:
    return Article(
        caption="One prompt of the evaluation set, with its right answer (the first, where several "
        "count). Marked in the corrupted prompts: what differs.",
        title=str(found.get("title", "")),
        sentences=[Sentence(str(found.get("clean_prompt", "")), False, None)],
        answer=str(found.get("summary", "")),
        label="Answer",
        variants=_variants(found),
        method=Method(
            steps=(
                "A prompt and its twin differ in tokens of the same positions; the answer is fed "
                "to both.",
            ),
        ),
    )


def sizes(run: Run) -> Iterator[Block]:
    """How many pairs were used for what."""
    pairs = run.evaluation.pairs
    score, evaluate = pairs.get("score"), pairs.get("evaluate")
    if score is None or evaluate is None:
        raise MissingResultError("evaluation.json does not say how many pairs were used.")
    yield Text(
        f"Edges were scored on {count(score.n)} pairs of the {score.split} split. Circuits were "
        f"then judged on {count(evaluate.n)} pairs of the {evaluate.split} split, none of which "
        "was used for scoring."
        if score.split != evaluate.split
        else f"Edges were scored on {count(score.n)} pairs and circuits judged on "
        f"{count(evaluate.n)}, both of the {score.split} split."
    )


def _variants(found: dict[str, Any]) -> dict[str, list[tuple[str, bool]]]:
    """The corrupted prompts in pieces, by the name of the corruption."""
    segments = found.get("segments", {})
    return {
        name: _marked(found, text, segments.get(name))
        for name, text in found.get("corruptions", {}).items()
    }


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
