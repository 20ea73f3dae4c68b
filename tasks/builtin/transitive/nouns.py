"""Where the nouns come from: the list of the package, nltk's WordNet, or a file."""

from __future__ import annotations

import importlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from tasks.errors import InputError

SHORTEST = 3  # letters; WordNet's shorter nouns are chemical symbols and letters


def read_nouns(source: str | Path) -> tuple[str, ...]:
    """The nouns of a source.

    Args:
        source: "own" for the package's list, "wordnet", or a text file with one noun a line.

    Returns:
        The nouns, each once.

    Raises:
        InputError: where the file is missing or broken, or WordNet is not installed.
    """
    if source == "own":
        return _own()
    if source == "wordnet":
        return _wordnet()
    return _file(Path(source))


def noun_files(source: str | Path) -> tuple[Path, ...]:
    """The text file that `read_nouns` reads for this source, if it does."""
    return () if source in ("own", "wordnet") else (Path(source),)


@cache
def _own() -> tuple[str, ...]:
    text = files("tasks.builtin.transitive").joinpath("nouns.json").read_text(encoding="utf-8")
    return tuple(json.loads(text)["nouns"])


@cache
def _wordnet() -> tuple[str, ...]:
    """Every noun lemma of one lower-case word, in alphabetical order."""
    try:
        wordnet = importlib.import_module("nltk.corpus").wordnet
        lemmas = set(wordnet.all_lemma_names(pos="n"))
    except ImportError as error:
        raise InputError(
            "transitive: nouns 'wordnet' need nltk; install it (pip install nltk), or use the "
            "nouns 'own'"
        ) from error
    except LookupError as error:
        raise InputError(
            "transitive: nouns 'wordnet' need nltk's WordNet, which is not on this machine; fetch "
            "it (python -m nltk.downloader wordnet), or use the nouns 'own'"
        ) from error
    plain = (lemma for lemma in lemmas if lemma.isascii() and lemma.isalpha() and lemma.islower())
    return tuple(sorted(lemma for lemma in plain if len(lemma) >= SHORTEST))


def _file(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{path}: the nouns cannot be read ({error.strerror}); nouns are 'own', 'wordnet' or a "
            "text file with one noun a line"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error})") from error
    nouns = {line.strip(): number for number, line in enumerate(lines, start=1) if line.strip()}
    for noun, number in nouns.items():
        if len(noun.split()) > 1:
            raise InputError(f"{path.name}, line {number}: {noun!r} is more than one word")
    if not nouns:
        raise InputError(f"{path}: the file has no nouns")
    return tuple(nouns)
