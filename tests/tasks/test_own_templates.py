"""Pronouns, induction, docstrings and hypernymy: what the answers are by the prompt alone."""

import re

import pytest

import tasks
from tasks.errors import CircuitsError
from tasks.text.lexicon import words

SPLITS = ("train", "validation", "test")
KIND = dict(pair.split(":") for pair in words("kinds"))
PRONOUN = {
    **dict.fromkeys(words("female_names"), " she"),
    **dict.fromkeys(words("male_names"), " he"),
}


def followed(text):
    """What stood behind the last word where it stood before; None where it did not."""
    *row, cue = text.removeprefix("The list: ").split()
    return f" {row[row.index(cue) + 1]}" if cue in row else None


@pytest.mark.parametrize("corruption", ["successor", "cue"])
def test_induction_copies(word_tokenizer, corruption):
    task = tasks.load("induction", corruption=corruption, length=6)
    for prompts in task.prompts(word_tokenizer, 100, split="test"):
        assert followed(prompts.clean) == prompts.answer
        assert followed(prompts.corrupted) == prompts.wrong
        assert len(prompts.clean.split()) == 2 + 6 + 1
    differ = [pair.spans for pair in task.pairs(word_tokenizer, 20)]
    assert all(len(spans) == 1 and spans[0][1] - spans[0][0] == 1 for spans in differ)


@pytest.mark.parametrize("length", [3, 15])
def test_lists_are_neither_too_short_nor_too_long(length):
    with pytest.raises(CircuitsError, match=f"length={length}; it is from 4 to 14"):
        tasks.load("induction", length=length)


@pytest.mark.parametrize("corruption", ["exchange", "random"])
def test_docstrings_go_on_with_the_next_argument(word_tokenizer, corruption):
    task = tasks.load("docstring", corruption=corruption)
    for prompts in task.prompts(word_tokenizer, 50):
        first, second = (
            re.search(r"\(self, (.*)\):", text)[1].split(", ")
            for text in (prompts.clean, prompts.corrupted)
        )
        told = re.findall(r":param (\w+):", prompts.clean)
        assert told == first[:2] == re.findall(r":param (\w+):", prompts.corrupted)
        assert (prompts.answer, prompts.wrong) == (f" {first[2]}", f" {first[3]}")
        if corruption == "exchange":
            assert second == [*told, first[3], first[2]]
        else:
            assert not set(first) & set(second)
        compile(prompts.clean + ' x:"""', "docstring", "exec")


@pytest.mark.parametrize("split", SPLITS)
def test_things_are_of_their_kind(word_tokenizer, split):
    pairs = set()
    for prompts in tasks.load("hypernymy").prompts(word_tokenizer, 100, split=split):
        kind, other, *things = prompts.names
        assert [KIND[thing] for thing in things] == [kind, kind, other, other]
        assert (prompts.answer, prompts.wrong) == (f" {kind}", f" {other}")
        assert {kind, other} not in ({"birds", "animals"}, {"insects", "animals"})
        assert all(thing in prompts.clean for thing in things[:2])
        assert all(thing in prompts.corrupted for thing in things[2:])
        pairs |= {frozenset(things[:2]), frozenset(things[2:])}
    assert len(pairs) > 20


def test_splits_share_no_things(word_tokenizer):
    seen = {
        split: {
            frozenset(prompts.names[2:4])
            for prompts in tasks.load("hypernymy").prompts(word_tokenizer, 200, split=split)
        }
        for split in SPLITS
    }
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["validation"]


@pytest.mark.parametrize("split", SPLITS)
def test_pronouns_are_of_the_names_gender(word_tokenizer, split):
    for prompts in tasks.load("pronoun").prompts(word_tokenizer, 100, split=split):
        one, other = prompts.names
        assert (PRONOUN[one], PRONOUN[other]) == (prompts.answer, prompts.wrong)
        assert prompts.answer != prompts.wrong
        assert prompts.clean.replace(one, other) == prompts.corrupted
    assert not set(words("female_names")) & set(words("male_names"))


@pytest.mark.parametrize("name", ["pronoun", "induction", "docstring", "hypernymy"])
def test_too_few_words_are_said(tokenizer, name):
    with pytest.raises(
        CircuitsError, match=rf"^{name}: of the \w.* single tokens of this tokenizer"
    ):
        tasks.load(name).pairs(tokenizer, 3, split="test")
