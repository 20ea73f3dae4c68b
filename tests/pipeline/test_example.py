"""The article that a report lays open: its pieces are the text, in order, with every space."""

import pytest
from conftest import make_tokenizer
from prepending import prepending

import tasks
from circuits.pipeline.example import example_article
from tasks.pairs import PairSet, PromptPair


@pytest.mark.parametrize("kind", ["llama-2", "llama-2 with bos", "gpt-2"])
def test_the_pieces_are_the_corrupted_text(kind):
    tokenizer = make_tokenizer() if kind == "gpt-2" else prepending(bos="bos" in kind)
    said = "Mary went to the store , and the capital of England is there ."
    tokens = tuple(tokenizer(said)["input_ids"])
    words = [tokenizer.decode(tokens[:place]) for place in range(len(tokens) + 1)]
    start = next(place for place, text in enumerate(words) if text.endswith(" the"))
    end = next(place for place, text in enumerate(words) if text.endswith("England"))
    clean = (*tokens[:start], *(token + 1 for token in tokens[start:end]), *tokens[end:])
    pair = PromptPair(clean, tokens, ((5,),), ((6,),), spans=((start, end),), source="a row")
    shown = example_article(
        tasks.load("capitals"), tokenizer, PairSet((pair,)), {}, split="all", seed=0
    )
    begin = "<s> " if "bos" in kind else ""
    (pieces,) = shown.corruptions.values()
    assert [piece.corrupted for piece in pieces] == [False, True, False]
    assert "".join(piece.text for piece in pieces) == begin + said
    assert pieces[1].text.startswith(" ") and pieces[2].text == " is there ."


def test_a_letter_that_is_cut_in_two_is_left_as_its_bytes_read():
    tokenizer = make_tokenizer()
    tokens = tuple(tokenizer("a\u00f6b")["input_ids"])  # two bytes, two tokens
    assert len(tokens) == 4
    pair = PromptPair((1, *tokens[1:]), tokens, ((5,),), spans=((0, 2),), source="a row")
    shown = example_article(
        tasks.load("capitals"), tokenizer, PairSet((pair,)), {}, split="all", seed=0
    )
    (pieces,) = shown.corruptions.values()
    assert [piece.text for piece in pieces] == ["a\ufffd", "\ufffdb"]


def test_without_spans_the_words_that_differ_are_marked():
    tokenizer = make_tokenizer()
    clean, corrupted = (
        tuple(tokenizer(text)["input_ids"])
        for text in ("Mary gave John a book", "Mary gave Paris a book")
    )
    pair = PromptPair(clean[: len(corrupted)], corrupted[: len(clean)], ((5,),), source="a row")
    shown = example_article(
        tasks.load("capitals"), tokenizer, PairSet((pair,)), {}, split="all", seed=0
    )
    (pieces,) = shown.corruptions.values()
    marked = [piece.text for piece in pieces if piece.corrupted]
    assert marked[0] == "Paris " and pieces[0].text == "Mary gave "
