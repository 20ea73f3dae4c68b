"""Prompts made of a table's columns, and the peer rows that corrupt them."""

import csv

import pytest
from tokenizers_of_texts import byte_pairs_of

import tasks
from tasks.errors import CircuitsError
from tasks.skipping import described
from tasks.templates import Template, require_gap

CAPITALS = (("France", "Paris"), ("Italy", "Rome"), ("home", "book"), ("John", "Mary"))
ASKED = {"clean": "the capital of {country} is", "correct": " {capital}"}


@pytest.fixture(scope="module")
def tokenizer():
    """Every word of the table is one token."""
    words = {word for row in CAPITALS for word in row} | {"the", "capital", "of", "in", "is"}
    return byte_pairs_of([f" {word}" for word in sorted(words)] * 2, 600)


@pytest.fixture
def table(tmp_path):
    def write(rows, **options):
        path = tmp_path / "rows.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("country", "capital"), *rows])
        return tasks.load("table", path=path, **options)

    return write


def texts(tokenizer, pairs):
    return [(tokenizer.decode(one.clean), tokenizer.decode(one.corrupted)) for one in pairs]


def test_a_prompt_is_filled_and_corrupted_with_a_peers(table, tokenizer):
    pairs = table(CAPITALS, **ASKED).pairs(tokenizer)
    assert pairs.metric == "logit-difference" and len(pairs) == 4
    answers = {f"the capital of {country} is": f" {capital}" for country, capital in CAPITALS}
    for pair, (clean, corrupted) in zip(pairs, texts(tokenizer, pairs), strict=True):
        assert corrupted in answers and corrupted != clean
        assert tokenizer.decode([token for (token,) in pair.answer]) == answers[clean]
        assert tokenizer.decode([token for (token,) in pair.wrong]) == answers[corrupted]
    assert pairs[0].source.startswith("rows.csv, row 1 (peer row ")


def test_more_rows_keep_the_pairs_of_fewer(table, tokenizer):
    task = table(CAPITALS, **ASKED)
    few, all_four = (task.pairs(tokenizer, n, seed=3) for n in (2, 4))
    assert list(all_four[:2]) == list(few)
    others = [task.pairs(tokenizer, 4, seed=seed).fingerprint for seed in range(6)]
    assert len(set(others)) > 1, "the seed decides"


def test_rows_without_a_peer_are_left_out_and_told(table, tokenizer):
    long = ("the capital of France is Paris and Rome in Italy", "Rome")
    pairs = table((*CAPITALS, long), **ASKED).pairs(tokenizer)
    assert len(pairs) == 4
    (left_out,) = pairs.skipped
    assert left_out.source == "rows.csv, row 5"
    assert described(pairs.skipped).startswith("1 row left out: 1 x no peer: no other row of the ")
    alike = table([("France", "Paris"), ("Italy", "Paris")], **ASKED)
    with pytest.raises(CircuitsError, match=r"0 of 2 rows can be used .*another answer"):
        alike.pairs(tokenizer)


def test_templates_may_name_the_peer_themselves(table, tokenizer):
    task = table(
        CAPITALS,
        **ASKED,
        corrupted="the capital in {peer.country} is",
        incorrect=" {peer.capital}",
    )
    pairs = task.pairs(tokenizer)
    assert all(" in " in corrupted for _, corrupted in texts(tokenizer, pairs))
    assert all(pair.wrong and pair.wrong != pair.answer for pair in pairs)


def test_without_peers_a_template_is_only_filled(table, tokenizer):
    fixed = table(CAPITALS, **ASKED, corrupted="the capital in {country} is")
    (first, *_) = fixed.pairs(tokenizer)
    assert fixed.metric == "answer-log-probability" and not first.wrong
    assert first.source == "rows.csv, row 1"


def test_splits_share_no_prompt_and_peers_are_of_the_same(table, tokenizer):
    rows = [(f"{country} {n}", capital) for country, capital in CAPITALS for n in range(30)]
    task = table(rows, **ASKED)
    seen = {}
    for split in ("train", "validation", "test"):
        pairs = task.pairs(tokenizer, split=split)
        seen[split] = {text for both in texts(tokenizer, pairs) for text in both}
    assert not seen["train"] & seen["test"] and not seen["validation"] & seen["test"]
    assert len(seen["train"]) > len(seen["test"]) > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clean": "the {nothing} is"}, r"row 1: no value in column 'nothing'; the row's columns"),
        ({"clean": "the {country!r} is"}, "a column's name alone stands in braces"),
        ({"clean": "the {} is"}, "a column's name alone stands in braces"),
        ({"clean": "the {country"}, "expected '}'"),
        ({"clean": "the {{country}} is"}, "no column stands in its braces"),
        ({"correct": "{capital}"}, "'Paris' stands right behind 'is', without a space"),
    ],
)
def test_what_cannot_be_filled_is_refused(table, tokenizer, options, said):
    with pytest.raises(CircuitsError, match=said):
        table(CAPITALS, **{**ASKED, **options}, corrupted="the {peer.country} is").pairs(tokenizer)


def test_a_template_of_the_peer_keeps_braces_that_are_meant():
    template = Template("{{x}} {a b} {peer.c}", "clean")
    assert template.of_peer("corrupted").text == "{{x}} {peer.a b} {peer.c}"
    assert list(template.columns) == ["a b", "peer.c"] and template.needs_peer


@pytest.mark.parametrize(
    ("prompt", "answer", "refused"),
    [
        ("is", "Paris", True),
        ("is", " Paris", False),
        ("7 + 5 =", "12", False),
        ("first 17", "32", True),
        ("是", "巴黎", False),
        ("равно", "два", True),
    ],
)
def test_a_missing_space_is_seen_where_words_have_spaces(prompt, answer, refused):
    if refused:
        with pytest.raises(CircuitsError, match="without a space between"):
            require_gap(prompt, answer, "row")
    else:
        require_gap(prompt, answer, "row")
