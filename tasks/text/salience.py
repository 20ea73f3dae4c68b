"""Which sentences of an article its summary was made from.

The greedy oracle of extractive summarisation (Nallapati, Zhai and Zhou 2017, "SummaRuNNer"): add
the sentence that raises the ROUGE of the chosen sentences against the summary the most; stop when
none raises it or when there are enough. ROUGE here is the mean of the F1 of ROUGE-1 and ROUGE-2,
with stemming, as in Liu and Lapata 2019; `tasks.text.rouge` says what a word is.

Scope: any script; sentences end as English ones do, or with a full stop of their own. Cost:
(sentences x chosen) ROUGE evaluations an article.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tasks.text.rouge import f_measures
from tasks.text.sentences import core, sentence_ranges


@dataclass(frozen=True)
class Sentence:
    """A sentence of an article.

    start, end: its half-open character range, without outer whitespace.
    score: its ROUGE against the whole summary, by itself, in [0, 1].
    salient: whether the greedy oracle chose it.
    """

    text: str
    start: int
    end: int
    score: float
    salient: bool


@dataclass(frozen=True)
class AnnotatedArticle:
    """An article as the task reads it: its sentences scored, the salient ones marked."""

    source: str
    text: str
    summary: str
    sentences: tuple[Sentence, ...]


@lru_cache(maxsize=4096)  # pair sets of one article differ in how it is corrupted
def annotate(article: str, summary: str, limit: int, words: str = "auto") -> tuple[Sentence, ...]:
    """All sentences of the article, in order, with the salient ones marked.

    Args:
        article: its text.
        summary: the reference.
        limit: most sentences to mark.
        words: how words are made (`tasks.text.rouge`).

    Returns:
        The sentences.
    """
    ranges = [core(article, *span) for span in sentence_ranges(article)]
    texts = [article[start:end] for start, end in ranges]
    scores = [rouge(summary, text, words) for text in texts]
    salient = oracle(texts, summary, limit, words)
    return tuple(
        Sentence(text, start, end, score, index in salient)
        for index, (text, (start, end), score) in enumerate(zip(texts, ranges, scores, strict=True))
    )


def oracle(sentences: Sequence[str], summary: str, limit: int, words: str = "auto") -> set[int]:
    """Indices of the greedily chosen sentences; empty when none shares a word with the summary.

    Args:
        sentences: of an article.
        summary: the reference.
        limit: most sentences to choose.
        words: how words are made (`tasks.text.rouge`).

    Returns:
        Indices.
    """
    salient: set[int] = set()
    best_score = 0.0
    while len(salient) < limit:
        gains = {
            index: rouge(summary, " ".join(sentences[i] for i in sorted({*salient, index})), words)
            for index in range(len(sentences))
            if index not in salient
        }
        index = max(gains, key=lambda i: gains[i], default=None)
        if index is None or gains[index] <= best_score:
            break
        salient.add(index)
        best_score = gains[index]
    return salient


def rouge(summary: str, text: str, words: str = "auto") -> float:
    """Mean F1 of ROUGE-1 and ROUGE-2 of `text` against `summary`, in [0, 1].

    Args:
        summary: the reference.
        text: what is scored.
        words: how words are made (`tasks.text.rouge`).

    Returns:
        The score.
    """
    scores = f_measures(summary, text, ("rouge1", "rouge2"), words=words)
    return (scores["rouge1"] + scores["rouge2"]) / 2
