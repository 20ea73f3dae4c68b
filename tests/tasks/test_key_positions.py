import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.pairs import PairSet, PromptPair
from tasks.text.key_positions import key_positions

TEXT = "Mary gave John a book. Rome is in Italy.\n\nParis is in France to read. The end"


def pairs_of(*rows):
    return PairSet(tuple(PromptPair(tuple(row), (*row[:-1], row[-1] + 1), ((1,),)) for row in rows))


def beginnings(tokenizer, ids, positions):
    return [tokenizer.decode([ids[place]]).strip() for place in positions]


def test_beginnings_of_sentences_and_paragraphs(tokenizer):
    ids = tokenizer(TEXT)["input_ids"]
    found = key_positions(tokenizer, pairs_of(ids))
    sentences = found["sentence-initial"][0]
    # The tokens that the second, third and fourth sentence begin with, whole or in part.
    words = ["Rome", "Paris", "The"]
    pieces = beginnings(tokenizer, ids, sentences)
    assert len(pieces) == 3
    assert all(word.startswith(piece) and piece for word, piece in zip(words, pieces, strict=True))
    paragraphs = found["paragraph-initial"][0]
    assert len(paragraphs) == 1 and paragraphs[0] == sentences[1]


def test_a_text_of_one_sentence_has_none(tokenizer):
    ids = tokenizer("Mary gave John a book")["input_ids"]
    found = key_positions(tokenizer, pairs_of(ids, tokenizer(TEXT)["input_ids"]))
    assert found["sentence-initial"][0] == [] and found["paragraph-initial"][0] == []
    assert len(found["sentence-initial"][1]) == 3


def test_tokens_that_no_text_is_split_into(tokenizer):
    """Letter by letter: the merges of the tokenizer do not come back."""
    whole = " Mary read. Rome is"
    ids = [token for letter in whole for token in tokenizer(letter)["input_ids"]]
    assert tokenizer(whole)["input_ids"] != ids
    (found,) = key_positions(tokenizer, pairs_of(ids))["sentence-initial"]
    assert beginnings(tokenizer, ids, found) == ["R"]


@pytest.fixture(scope="module")
def _tokenizer(tokenizer):
    return tokenizer


@given(st.lists(st.integers(1, 398), min_size=1, max_size=30))
def test_positions_lie_within_any_prompt(_tokenizer, ids):
    for places in key_positions(_tokenizer, pairs_of(ids)).values():
        assert places[0] == sorted(set(places[0]))
        assert all(0 < place < len(ids) for place in places[0])
