"""ROUGE, for texts of any script.

`rouge-score` (Lin 2004) drops everything but a-z and 0-9 before it counts: a Russian text has no
words there, and two Chinese sentences that share a year have that one. Three ways to make words:

- `ascii`: rouge-score's own, the one that published figures are made with.
- `unicode`: runs of letters, marks and digits of any script, case-folded after NFKC; each letter by
  itself, with its marks, where a script is written without spaces (Chinese, Japanese, Thai, Lao,
  Khmer, Burmese). On ASCII text it is rouge-score's own, stemming included.
- `auto`: `unicode` for a reference of which more than a tenth of the words have no a-z or 0-9, so
  for any without Latin letters; else `ascii`.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import regex

from tasks.errors import CircuitsError

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import Tokenizer

WORDS = ("auto", "ascii", "unicode")

_UNSEEN = 0.1  # of a reference's words, the share without a-z or 0-9 that rouge-score is left at
_STEMMED = 3  # rouge-score stems longer words only
_SPACELESS = ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
_LETTER = "[[{}]&&\\p{{L}}]".format("".join(f"\\p{{scx={script}}}" for script in _SPACELESS))
_WORD = regex.compile(rf"(?V1){_LETTER}\p{{M}}*|(?:(?!{_LETTER})[\p{{L}}\p{{M}}\p{{N}}])+")
_SEEN = regex.compile("[a-z0-9]")


def require_words(words: str) -> None:
    """Refuse what is no way to make words.

    Args:
        words: the name of a way.

    Raises:
        CircuitsError: for an unknown one.
    """
    if words not in WORDS:
        raise CircuitsError(f"unknown words {words!r}; known: {', '.join(WORDS)}")


def unicode_words(text: str) -> list[str]:
    """The words of a text of any script, as they are compared, not stemmed.

    Args:
        text: of any script.

    Returns:
        Its words, in order.
    """
    return list(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


@lru_cache(maxsize=256)
def chosen_words(reference: str, words: str = "auto") -> str:
    """How the words of a reference are made.

    Args:
        reference: the text.
        words: "auto", "ascii" or "unicode".

    Returns:
        "ascii" or "unicode".

    Raises:
        CircuitsError: where its words are made in a way that sees none of them: every score would
            be 0.
    """
    require_words(words)
    reference_words = unicode_words(reference)
    unseen_words = [word for word in reference_words if not _SEEN.search(word)]
    if words == "auto":
        return "unicode" if len(unseen_words) > _UNSEEN * len(reference_words) else "ascii"
    if words == "ascii" and reference_words and len(unseen_words) == len(reference_words):
        raise CircuitsError(
            f"no word of {reference.strip()[:40]!r} has a letter a-z or a digit, which is all that "
            "rouge-score sees, so every ROUGE would be 0; make words with words=unicode"
        )
    return words


def f_measures(
    reference: str, text: str, kinds: tuple[str, ...], *, words: str = "auto", stem: bool = True
) -> dict[str, float]:
    """F1 of each kind of ROUGE (rouge1, rouge2, rougeL) of a text against a reference, in [0, 1].

    A reference without any word scores 1 against itself, and 0 against anything else.

    Args:
        reference: the text to compare with.
        text: what is scored.
        kinds: of "rouge1", "rouge2", "rougeL".
        words: "auto", "ascii" or "unicode".
        stem: whether words are Porter-stemmed.

    Returns:
        Kind -> F1.
    """
    word_kind = chosen_words(reference, words)
    if not unicode_words(reference):
        equality = float(bool(text.strip()) and text.strip() == reference.strip())
        return dict.fromkeys(kinds, equality)
    scores = _scorer(kinds, word_kind, stem).score(target=reference, prediction=text)
    return {kind: float(score.fmeasure) for kind, score in scores.items()}


@cache
def _scorer(kinds: tuple[str, ...], words: str, stem: bool) -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = _tokenizer(stem) if words == "unicode" else None
    return RougeScorer(list(kinds), use_stemmer=stem, tokenizer=tokenizer)


@runtime_checkable
class _Stemmer(Protocol):
    def stem(self, word: str) -> str: ...


def _tokenizer(stem: bool) -> Tokenizer:
    from nltk.stem.porter import PorterStemmer
    from rouge_score.tokenizers import Tokenizer

    stemmer: _Stemmer = PorterStemmer()

    class Unicode(Tokenizer):  # type: ignore[misc]
        def tokenize(self, text: str) -> list[str]:
            tokens = unicode_words(text)
            return [_stemmed(stemmer, word) for word in tokens] if stem else tokens

    return Unicode()


def _stemmed(stemmer: _Stemmer, word: str) -> str:
    return stemmer.stem(word) if word.isascii() and len(word) > _STEMMED else word
