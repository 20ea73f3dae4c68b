"""Greater-than: the years above, read off the decoded tokens."""

import re

import pytest
from prepending import prepending
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasks.builtin.greater_than import GreaterThan
from tasks.errors import CircuitsError
from tasks.text.lexicon import of_split, words

SPLITS = ["train", "validation", "test"]


@pytest.mark.parametrize("split", SPLITS)
def test_the_answers_are_the_years_above(word_tokenizer, split):
    pairs = GreaterThan().pairs(word_tokenizer, 80, split=split)
    assert pairs.metric == "probability-difference"
    for pair in pairs:
        clean = word_tokenizer.decode(pair.clean)
        event, century, year, end = re.fullmatch(
            r"The (\w+) lasted from the year (\d\d)(\d\d) to the year (\d\d)", clean
        ).groups()
        assert event in of_split(words("events"), split)
        assert century == end and 11 <= int(century) <= 17 and 2 <= int(year) <= 98
        right, wrong = (
            [word_tokenizer.decode([token]) for token in tokens[0]]
            for tokens in (pair.answer, pair.wrong)
        )
        assert right == [f"{y:02d}" for y in range(int(year) + 1, 100)]
        assert wrong == [f"{y:02d}" for y in range(int(year) + 1)]
        corrupted = word_tokenizer.decode(pair.corrupted)
        assert corrupted == clean.replace(f"{century}{year}", f"{century}01", 1)
        assert [end - start for start, end in pair.spans] == [1]
        # What is asked for is what the tokenizer itself would write.
        whole = word_tokenizer(f"{clean}{right[0]}")["input_ids"]
        assert whole == [*pair.clean, pair.answer[0][0]]


def test_years_that_are_one_token_are_not_used(bpe):
    """GPT-2 has " 1776" and every " 1x00" as one token."""
    digits = [f"{number:02d}" for number in range(100)]
    centuries = [f" {century}" for century in range(11, 18)]
    whole = [*(f"{century}00" for century in centuries), " 1776", " 1101"]
    loaded = bpe([*centuries * 200, *digits * 20, *whole * 10], 1000)
    assert [len(loaded.tokenize(year)) for year in (" 1700", " 1776", " 1732")] == [1, 1, 2]
    pairs = GreaterThan().pairs(loaded, 400)
    years = {loaded.decode(pair.clean).split()[6] for pair in pairs}
    # 1101, the corrupted year, is one token: nothing of that century can be used.
    assert {year[:2] for year in years} == {str(century) for century in range(12, 18)}
    assert "1776" not in years and len(years) > 200
    assert {loaded.decode(pair.wrong[0][:1]) for pair in pairs} == {"00"}


def word_pieces(d_vocab):
    pieces = models.WordPiece({word: i for i, word in enumerate(d_vocab)}, unk_token="[UNK]")
    model = Tokenizer(pieces)
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=model, unk_token="[UNK]")


def test_digits_that_are_other_tokens_after_a_century_do_not_stand_for_them():
    digits = [f"{number:02d}" for number in range(100)]
    after = [f"##{number}" for number in digits]
    d_vocab = [*dict.fromkeys(["[UNK]", "the", "year", *digits, *after])]
    whole = [f"{century}00" for century in range(11, 18)]
    with pytest.raises(CircuitsError, match=r"\(' 1732' is \['17', '##32'\]; needed are"):
        GreaterThan().pairs(word_pieces([*d_vocab, *whole]), 3)  # ##00 is never seen
    loaded = word_pieces(d_vocab)
    pair = GreaterThan().pairs(loaded, 3)[0]
    assert [*pair.wrong[0], *pair.answer[0]] == loaded.convert_tokens_to_ids(after)


@pytest.mark.parametrize("split", SPLITS)
def test_a_tokenizer_that_writes_years_otherwise_is_refused(tokenizer, split):
    with pytest.raises(
        CircuitsError,
        match=r"^greater-than: this tokenizer does not write .* \(' 1732' is \[.*'3', '2'\]",
    ):
        GreaterThan().pairs(tokenizer, 3, split=split)


@pytest.mark.parametrize("split", SPLITS)
def test_one_digit_where_every_digit_is_a_token(split):
    """SmolLM2's and Gemma's way."""
    tokenizer = prepending()
    pairs = GreaterThan(digits=1).pairs(tokenizer, 200, split=split)
    assert pairs.metric == "probability-difference"
    for pair in pairs:
        clean = tokenizer.decode(pair.clean)
        event, decade, year, end = re.fullmatch(
            r"The (\w+) lasted from the year (\d{3})(\d) to the year (\d{3})", clean
        ).groups()
        assert event in of_split(words("events"), split)
        assert decade == end and 110 <= int(decade) <= 179 and 1 <= int(year) <= 8
        right, wrong = (
            [tokenizer.convert_ids_to_tokens(token) for token in tokens[0]]
            for tokens in (pair.answer, pair.wrong)
        )
        assert right == [str(digit) for digit in range(int(year) + 1, 10)]
        assert wrong == [str(digit) for digit in range(int(year) + 1)]
        assert tokenizer.decode(pair.corrupted) == clean.replace(f"{decade}{year}", f"{decade}0", 1)
        assert [end - start for start, end in pair.spans] == [1]
        assert tokenizer(f"{clean}{right[0]}")["input_ids"] == [*pair.clean, pair.answer[0][0]]


def test_each_way_of_writing_years_names_the_other(word_tokenizer, tokenizer):
    with pytest.raises(CircuitsError, match=r"use digits=2, or another task"):
        GreaterThan(digits=1).pairs(word_tokenizer, 3)
    with pytest.raises(CircuitsError, match=r"\); digits=1 works with it$"):
        GreaterThan().pairs(tokenizer, 3)
    with pytest.raises(CircuitsError, match="digits=3; it is 1 or 2"):
        GreaterThan(digits=3)
