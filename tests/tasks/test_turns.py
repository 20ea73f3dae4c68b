"""Turns of a dialogue are its sentences."""

from itertools import pairwise

import pytest

from tasks.text.salience import annotate, oracle
from tasks.text.sentences import sentence_ranges
from tasks.text.turns import turn_ranges

TALK = (
    "Ann: Are you free? I am. Dr. Hale is too.\nBob Lee:<file_gif>\nand more\n\nAnn: At 10:30 then"
)


def pieces(text, ranges):
    assert ranges[0][0] == 0 and ranges[-1][1] == len(text)
    assert all(one[1] == other[0] for one, other in pairwise(ranges))
    return [text[start:end] for start, end in ranges]


def test_turns_tile_the_text():
    assert pieces(TALK, turn_ranges(TALK)) == [
        "Ann: Are you free? I am. Dr. Hale is too.\n",
        "Bob Lee:<file_gif>\nand more\n\n",
        "Ann: At 10:30 then",
    ]
    assert sentence_ranges(TALK) == turn_ranges(TALK)
    assert pieces("\n " + TALK, turn_ranges("\n " + TALK))[0].startswith("\n Ann: Are")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Note: the mayor left. It rained.",  # one line
        "He said:\nIt rained.\nThe mayor left at once.\nNobody came: the hall was shut.",
        "It rained.\nAnn: no\nBob: yes\nAnn: no",  # the first line is no turn
        "At 10:30 it rained\nhttp://example.org\nAt 11:15 it stopped",
        "Ann: hi\nand\nso\non",
    ],
)
def test_other_texts_are_none(text):
    assert turn_ranges(text) is None


def test_the_turn_that_the_summary_needs_is_salient():
    sentences = annotate(TALK, "Ann and Bob Lee meet at 10:30 then", 1)
    assert [sentence.salient for sentence in sentences] == [False, False, True]
    assert sentences[2].text == "Ann: At 10:30 then"


def test_an_article_is_scored_once(monkeypatch):
    annotate.cache_clear()
    calls = []
    real = oracle

    def counted(*given):
        calls.append(given)
        return real(*given)

    monkeypatch.setattr("tasks.text.salience.oracle", counted)
    first = annotate("Rome is big. It rained.", "Rome is big", 1)
    assert annotate("Rome is big. It rained.", "Rome is big", 1) is first
    assert annotate("Rome is big. It rained.", "Rome is big", 2) is not first
    assert len(calls) == 2
