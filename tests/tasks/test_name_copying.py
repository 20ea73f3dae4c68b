"""Copying a surname, against a reader that looks up the full name."""

import re

import pytest

from tasks.builtin.name_copying import FILLERS, NameCopying
from tasks.errors import CircuitsError
from tasks.text.lexicon import of_split, words

SPLITS = ["train", "validation", "test"]


def surname_of(text):
    """The word that followed the text's last word where it stood before, or None."""
    first = text.split()[-1]
    found = re.search(rf"\b{first} ([A-Z]\w+)", text)
    return found and found[1]


@pytest.mark.parametrize("distance", [None, 0, 1, 6])
@pytest.mark.parametrize("split", SPLITS)
def test_the_surname_was_said_before(word_tokenizer, distance, split):
    task = NameCopying(distance=distance)
    fillers = set()
    for prompts in task.prompts(word_tokenizer, 60, split=split):
        last, other, first, other_first = prompts.names
        assert surname_of(prompts.clean) == last
        assert surname_of(prompts.corrupted) == other
        assert prompts.corrupted == prompts.clean.replace(f"{first} {last}", f"{first} {other}")
        assert (prompts.answer, prompts.wrong) == (f" {last}", f" {other}")
        assert first in of_split(words("first_names"), split) and first != other_first
        fillers.add(sum(filler in prompts.clean for filler in FILLERS))
    assert fillers == ({0, 1, 2, 3, 4} if distance is None else {distance})


def test_another_first_name_leaves_nothing_to_copy(word_tokenizer):
    for prompts in NameCopying("first-name").prompts(word_tokenizer, 40):
        last, _, first, other_first = prompts.names
        assert prompts.corrupted == prompts.clean.replace(
            f"{first} {last}", f"{other_first} {last}"
        )
        assert surname_of(prompts.corrupted) is None


def test_nobody_is_called_scott_scott(word_tokenizer):
    assert {"Scott", "Taylor"} <= set(words("first_names")) & set(words("surnames"))
    for prompts in NameCopying().prompts(word_tokenizer, 6000):
        last, other, first, other_first = prompts.names
        assert not {first, other_first} & {last, other}


def test_fillers_name_nobody():
    named = {*words("first_names"), *words("surnames")}
    assert not named & {word.strip(".,") for filler in FILLERS for word in filler.split()}


@pytest.mark.parametrize("split", SPLITS)
def test_michelle_jones(word_tokenizer, split):
    (pair,) = NameCopying(source="original").pairs(word_tokenizer, 1, split=split)
    assert word_tokenizer.decode(pair.clean) == "Michelle Jones was a top-notch student. Michelle"
    assert (
        word_tokenizer.decode(pair.corrupted) == "Michelle Smith was a top-notch student. Michelle"
    )
    assert [word_tokenizer.decode(pair.clean[a:b]) for a, b in pair.spans] == [" Jones"]
    assert word_tokenizer.decode(pair.answer[0]) == " Jones"
    assert word_tokenizer.decode(pair.wrong[0]) == " Smith"
    (farther,) = NameCopying(source="original", distance=2).prompts(word_tokenizer, 1)
    assert sum(filler in farther.clean for filler in FILLERS) == 2


def test_names_of_several_tokens_come_in_equal_length(tokenizer):
    pairs = NameCopying().pairs(tokenizer, 30, split="train")
    (length,) = {len(pair.answer) for pair in pairs}
    assert length > 1 and all(len(pair.wrong) == length for pair in pairs)


def test_refusals():
    for distance in (-1, len(FILLERS) + 1):
        with pytest.raises(CircuitsError, match=f"distance {distance}; there are 0 to"):
            NameCopying(distance=distance)
    with pytest.raises(CircuitsError, match="unknown source 'paper'; known: generated, original"):
        NameCopying(source="paper")
