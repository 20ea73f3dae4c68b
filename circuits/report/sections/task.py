"""What is asked of the model: one example, and what its corrupted twins replace."""

from __future__ import annotations

from collections.abc import Iterator

from circuits.format import count
from circuits.report.blocks import Article, Block, Method, Sentence, Text
from circuits.report.nouns import ARTICLES
from circuits.report.run import Run
from circuits.runs import MissingResultError
from circuits.runs.records import ExampleFile

_ARTICLES = (
    "The model reads an article and a cue, and continues with a summary. Each article has a "
    "corrupted twin of equal length, in which the sentences that the summary is made from are "
    "replaced."
)
_PROMPTS = (
    "The model reads a prompt and continues with an answer. Each prompt has a corrupted twin of "
    "equal length."
)
_MATTERS = (
    " An edge of the model matters for the task if the metric falls when the edge carries the "
    "value that it has on the corrupted twin."
)


def example(run: Run) -> Iterator[Block]:
    """An article as a clipping, or a prompt; then the corrupted ones."""
    example_file = run.example
    of_articles = run.nouns is ARTICLES
    yield Text((_ARTICLES if of_articles else _PROMPTS) + _MATTERS)
    yield _article(example_file) if of_articles else _prompt(example_file)


def _article(example_file: ExampleFile) -> Article:
    sentences = [
        Sentence(sentence.text, sentence.salient, sentence.score)
        for sentence in example_file.sentences
    ]
    masked = sum(sentence.masked for sentence in sentences)
    return Article(
        caption="One article of the evaluation set. Marked: the "
        + ("sentence" if masked == 1 else f"{masked} sentences")
        + " that the summary needs and that every corruption changes; the number behind a sentence"
        " is its own ROUGE against the summary.",
        title=example_file.title,
        sentences=sentences,
        answer=example_file.answer,
        label="Summary",
        variants=_variants(example_file),
        method=Method(
            steps=(
                "Sentences are marked by the task: the newsroom task knows which of its sentences "
                "it wrote the summary from; for other articles, a greedy search adds the "
                "sentence that raises the ROUGE of the chosen sentences against the summary the "
                "most.",
                "The score of a sentence is the mean F1 of ROUGE-1 and ROUGE-2 of that sentence "
                "alone against the whole summary.",
                "Only tokens of the marked sentences differ between a prompt and its twin; the "
                "summary is fed to both.",
            ),
            source="Nallapati, Zhai and Zhou (2017), SummaRuNNer; Liu and Lapata (2019).",
        ),
    )


def _prompt(example_file: ExampleFile) -> Article:
    return Article(
        caption="One prompt of the evaluation set, with its right answer (the first, where several "
        "count). In the corrupted prompts, what differs is marked.",
        title=example_file.title,
        sentences=[Sentence(example_file.clean_prompt, False, None)],
        answer=example_file.answer,
        label="Answer",
        variants=_variants(example_file),
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
        f"then evaluated on {count(evaluate.n)} pairs of the {evaluate.split} split, none of "
        "which "
        "was used for scoring."
        if score.split != evaluate.split
        else f"Edges were scored on {count(score.n)} pairs and circuits were evaluated on "
        f"{count(evaluate.n)}, both of the {score.split} split."
    )


def _variants(example_file: ExampleFile) -> dict[str, list[tuple[str, bool]]]:
    """The corrupted prompts in pieces, by the name of the corruption."""
    return {
        name: [(piece.text, piece.corrupted) for piece in pieces]
        for name, pieces in example_file.corruptions.items()
    }
