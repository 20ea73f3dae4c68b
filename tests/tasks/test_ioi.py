"""Indirect object identification, against a count of the names."""

import re
from collections import Counter

import pytest

from tasks.builtin.ioi import IOI, TEMPLATES
from tasks.errors import CircuitsError
from tasks.text.lexicon import of_split, words

SPLITS = ["train", "validation", "test"]
NAMES = set(words("first_names"))
THINGS = {*words("places"), *words("objects")}


def names_in(text):
    return [word for word in re.findall(r"[A-Za-z]+", text) if word in NAMES]


@pytest.mark.parametrize("order", ["both", "abba", "baba"])
@pytest.mark.parametrize("corruption", ["abc", "swap"])
def test_the_answer_is_the_name_said_once(word_tokenizer, corruption, order):
    seen = Counter()
    for prompts in IOI(corruption, order).prompts(word_tokenizer, 60):
        one, two, giver = names_in(prompts.clean)
        (io,) = {one, two} - {giver}
        assert (prompts.answer, prompts.wrong) == (f" {io}", f" {giver}")
        assert prompts.names[:2] == (io, giver)
        seen["abba" if one == io else "baba"] += 1
        corrupted = names_in(prompts.corrupted)
        if corruption == "swap":
            assert corrupted == [one, two, io]
        else:
            assert len(set(corrupted)) == 3 and not {one, two} & set(corrupted)
    assert set(seen) == ({"abba", "baba"} if order == "both" else {order})


def test_a_chosen_order_keeps_the_rest(word_tokenizer):
    both, abba, baba = (IOI(order=o).prompts(word_tokenizer, 40) for o in ("both", "abba", "baba"))
    for drawn, one, other in zip(both, abba, baba, strict=True):
        assert drawn in (one, other) and one != other
        assert Counter(names_in(one.clean)) == Counter(names_in(other.clean))


def test_all_templates_occur(word_tokenizer):
    made = IOI().prompts(word_tokenizer, 300)
    shapes = {
        tuple(word for word in re.findall(r"\w+", text) if word not in NAMES | THINGS)
        for text in (prompts.clean for prompts in made)
    }
    assert len(TEMPLATES) == len(shapes) == 15


def test_splits_share_no_name(word_tokenizer):
    for split in SPLITS:
        mine = set(of_split(words("first_names"), split))
        for prompts in IOI().prompts(word_tokenizer, 200, split=split):
            assert {*names_in(prompts.clean), *names_in(prompts.corrupted)} <= mine


def test_refusals(tokenizer):
    with pytest.raises(CircuitsError, match="unknown order 'abab'; known: both, abba, baba"):
        IOI(order="abab")
    with pytest.raises(
        CircuitsError, match=r"^ioi: of the names in the split 'test': \d of 17 are single tokens"
    ):
        IOI().pairs(tokenizer, 3, split="test")
