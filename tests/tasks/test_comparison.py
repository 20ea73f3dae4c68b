"""Who has more titles, against a reader of the two statements."""

import re

import pytest

from tasks.builtin.comparison import Comparison
from tasks.errors import CircuitsError
from tasks.text.lexicon import words

SPLITS = ["train", "validation", "test"]


def statements(text):
    return [(name, int(titles)) for name, titles in re.findall(r"(\w+) has won (\d+)", text)]


def leader(text):
    return max(statements(text), key=lambda statement: statement[1])[0]


@pytest.mark.parametrize("corruption", ["numbers", "names", "players"])
@pytest.mark.parametrize("order", ["both", "less-first", "more-first"])
def test_the_answer_has_more(word_tokenizer, corruption, order):
    for number, prompts in enumerate(Comparison(corruption, order).prompts(word_tokenizer, 30)):
        winner, loser, *_ = prompts.names
        assert leader(prompts.clean) == winner
        assert (prompts.answer, prompts.wrong) == (f" {winner}", f" {loser}")
        (first, one), (second, two) = statements(prompts.clean)
        less_first = order == "less-first" or (order == "both" and number % 2 == 0)
        assert (first, second) == ((loser, winner) if less_first else (winner, loser))
        corrupted = statements(prompts.corrupted)
        if corruption == "numbers":
            assert corrupted == [(first, two), (second, one)]
            assert leader(prompts.corrupted) == loser
        elif corruption == "names":
            assert corrupted == [(second, one), (first, two)]
            assert leader(prompts.corrupted) == loser
        else:
            assert [titles for _, titles in corrupted] == [one, two]
            assert len({first, second, corrupted[0][0], corrupted[1][0]}) == 4


def test_both_orders_ask_the_same_question(word_tokenizer):
    prompts = Comparison().prompts(word_tokenizer, 20)
    for one, other in zip(prompts[::2], prompts[1::2], strict=True):
        assert statements(one.clean) == statements(other.clean)[::-1]
        assert one.answer == other.answer


def test_splits_share_no_pair_of_numbers(word_tokenizer):
    seen = {
        split: {
            frozenset(titles for _, titles in statements(prompts.clean))
            for prompts in Comparison().prompts(word_tokenizer, 300, split=split)
        }
        for split in SPLITS
    }
    assert not seen["train"] & seen["validation"] and not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]
    assert all(len(pairs) > 50 for pairs in seen.values())


def test_the_four_names(word_tokenizer):
    first = dict(reversed(player.split()) for player in words("players"))
    for prompts in Comparison().prompts(word_tokenizer, 30):
        winner, loser, *others = prompts.names
        assert others == [first[winner], first[loser]]


def test_ronaldo_and_messi(word_tokenizer):
    for split in SPLITS:
        one, other = Comparison(source="original").prompts(word_tokenizer, 2, split=split)
        assert statements(one.clean) == [("Ronaldo", 5), ("Messi", 8)]
        assert statements(other.clean) == [("Messi", 8), ("Ronaldo", 5)]
        assert one.names == other.names == ("Messi", "Ronaldo", "Lionel", "Cristiano")
    players = Comparison("players", source="original").prompts(word_tokenizer, 2)
    assert not {"Ronaldo", "Messi"} & {name for name, _ in statements(players[0].corrupted)}
    with pytest.raises(CircuitsError, match="3 different prompts are asked for, and 2 were found"):
        Comparison(source="original").prompts(word_tokenizer, 3)


def test_names_of_several_tokens_come_in_equal_length(tokenizer):
    """With a tokenizer that splits most names, answers are read at several positions."""
    pairs = Comparison().pairs(tokenizer, 40)
    (length,) = {len(pair.answer) for pair in pairs}
    assert length > 1
    for pair, prompts in zip(pairs, Comparison().prompts(tokenizer, 40), strict=True):
        assert tokenizer.decode([token for (token,) in pair.answer]) == prompts.answer
        assert len(pair.wrong) == length and any(pair.wrong)
        for right, wrong in zip(pair.answer, pair.wrong, strict=True):
            assert right != wrong
    assert any(() in pair.wrong for pair in pairs)  # two names share a piece somewhere


def test_refusals(word_tokenizer, tokenizer):
    with pytest.raises(CircuitsError, match="unknown order 'abba'; known: both, less-first, more"):
        Comparison(order="abba")
    with pytest.raises(CircuitsError, match="unknown source 'paper'; known: generated, original"):
        Comparison(source="paper")
    with pytest.raises(CircuitsError, match="Ronaldo and Messi and two other players do not have"):
        Comparison(source="original").pairs(tokenizer, 2)
