"""Subject-verb agreement: the verb agrees with the subject, whatever stands between."""

import re

import pytest

import tasks
from tasks.builtin.agreement import VERBS
from tasks.errors import CircuitsError
from tasks.text.lexicon import of_split, words

NUMBER = {form: place for noun in words("countables") for place, form in enumerate(noun.split())}
SINGULAR = {form: noun.split()[0] for noun in words("countables") for form in noun.split()}


def read(text):
    """Subject and attractor."""
    found = re.fullmatch(
        r"(?:They told us that the|We think that the|The) (\w+) (?:that|near|behind|next to|"
        r"in front of|beside|across from) the (\w+)(?: liked| saw| hit| found)?",
        text,
    )
    assert found, text
    return found.groups()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("corruption", ["number", "noun"])
def test_the_verb_has_the_subjects_number(word_tokenizer, split, corruption):
    task = tasks.load("agreement", corruption=corruption)
    mine = set(of_split([noun.split()[0] for noun in words("countables")], split))
    numbers = set()
    for prompts in task.prompts(word_tokenizer, 250, split=split):
        subject, attractor = read(prompts.clean)
        instead, other = read(prompts.corrupted)
        assert {SINGULAR[subject], SINGULAR[attractor], SINGULAR[instead]} <= mine
        assert SINGULAR[subject] != SINGULAR[attractor] == SINGULAR[other] != SINGULAR[instead]
        assert (SINGULAR[subject] == SINGULAR[instead]) == (corruption == "number")
        assert NUMBER[attractor] == NUMBER[other]
        assert NUMBER[instead] == 1 - NUMBER[subject]
        (verb,) = [verb for verb in VERBS if prompts.answer.strip() in verb]
        assert prompts.answer == f" {verb[NUMBER[subject]]}"
        assert prompts.wrong == f" {verb[NUMBER[instead]]}"
        assert prompts.names == (subject, attractor, instead)
        numbers.add((NUMBER[subject], NUMBER[attractor], verb))
    assert len(numbers) == 4 * len(VERBS)
    for pair in task.pairs(word_tokenizer, 20, split=split):
        assert [end - start for start, end in pair.spans] == [1]


@pytest.mark.parametrize("attractor", ["same", "other"])
@pytest.mark.parametrize("structure", ["phrase", "clause"])
def test_options(word_tokenizer, structure, attractor):
    task = tasks.load("agreement", structure=structure, attractor=attractor)
    for prompts in task.prompts(word_tokenizer, 60):
        subject, near = read(prompts.clean)
        assert (NUMBER[subject] == NUMBER[near]) == (attractor == "same")
        assert bool(re.search(r"(liked|saw|hit|found)$", prompts.clean)) == (structure == "clause")


def test_refusals(tokenizer):
    with pytest.raises(CircuitsError, match=r"of the nouns in the split 'test', \d of \d+ are sin"):
        tasks.load("agreement").pairs(tokenizer, 3, split="test")
    for option in ("structure", "attractor", "corruption"):
        with pytest.raises(CircuitsError, match=f"^agreement: unknown {option} 'odd'; known: "):
            tasks.load("agreement", **{option: "odd"})
