"""Countries and capitals: splits share no country, and the other country's capital is wrong."""

import pytest

import tasks
from tasks.errors import CircuitsError
from tasks.text.lexicon import words

SPLITS = ("train", "validation", "test")
CAPITALS = {split: dict(pair.split(":") for pair in words(f"capitals_{split}")) for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_each_country_has_its_capital(word_tokenizer, split):
    task, capitals = tasks.load("capitals"), CAPITALS[split]
    seen = set()
    for prompts in task.prompts(word_tokenizer, 300, split=split):
        answer, wrong, country, other = prompts.names
        assert (capitals[country], capitals[other]) == (answer, wrong) and answer != wrong
        assert (prompts.answer, prompts.wrong) == (f" {answer}", f" {wrong}")
        assert f" {country} " in prompts.clean or f" {country}," in prompts.clean
        assert prompts.clean.replace(country, other) == prompts.corrupted
        seen.add(country)
    assert seen == set(capitals)
    for pair in task.pairs(word_tokenizer, 20, split=split):
        assert [end - start for start, end in pair.spans] == [1]


def test_splits_share_neither_country_nor_capital():
    for kind in ("keys", "values"):
        named = [name for split in SPLITS for name in getattr(CAPITALS[split], kind)()]
        assert len(named) == len(set(named)) > 70
    assert not set(named) & {name for split in SPLITS for name in CAPITALS[split]}


def test_too_few_words_are_said(tokenizer):
    with pytest.raises(CircuitsError, match=r"^capitals: of the capitals in the split 'test': \d"):
        tasks.load("capitals").pairs(tokenizer, 3, split="test")
