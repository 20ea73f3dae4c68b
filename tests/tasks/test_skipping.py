"""Rows that cannot be used are refused by name, or left out, counted and listed."""

import json

import pytest

import tasks
from tasks.errors import CircuitsError
from tasks.pairs import PairSet
from tasks.skipping import Skipped, described

LONG = " ".join(["word"] * 60) + "."


@pytest.fixture
def mixed(tmp_path, articles):
    """Eighteen articles, of which four cannot be used, each for a reason of its own."""
    rows = [dict(row) for row in articles]
    rows[2]["article"] = " "
    rows[5]["highlights"] = "Xyzzy plugh qwerty"  # no word of the article
    rows[7]["article"] = LONG + " " + rows[7]["article"]
    del rows[11]["highlights"]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


REASONS = {
    "mixed.jsonl, line 3": "column 'article' is blank",
    "mixed.jsonl, line 6": "no sentence of the article shares a word with the summary",
    "mixed.jsonl, line 8": "the article's first sentence is longer than max_article_tokens=50",
    "mixed.jsonl, line 12": "no value in column 'highlights'",
}


@pytest.mark.parametrize("corruption", ["swap", "filler", "shuffle"])
def test_articles_that_cannot_be_used_are_left_out(mixed, tokenizer, corruption):
    options = {"path": mixed, "corruption": corruption, "max_article_tokens": 50}
    strict = tasks.load("summarization", **options)
    with pytest.raises(CircuitsError, match=r"^mixed.jsonl, line (3|6|8|12): "):
        strict.pairs(tokenizer, split="all")
    task = tasks.load("summarization", skip=True, **options)
    pairs = task.pairs(tokenizer, split="all")
    assert {row.source: row.reason for row in pairs.skipped}.keys() == REASONS.keys()
    assert all(row.reason.startswith(REASONS[row.source]) for row in pairs.skipped)
    assert [pair.source for pair in pairs] == [
        f"mixed.jsonl, line {line}" for line in range(1, 19) if line not in (3, 6, 8, 12)
    ]
    fewer = task.pairs(tokenizer, 10, split="all", seed=1)
    more = task.pairs(tokenizer, 14, split="all", seed=1)
    assert more.pairs[:10] == fewer.pairs and len(more.skipped) <= 4
    assert [row.source for row in task.annotate(tokenizer, 14, split="all", seed=1)] == [
        pair.source for pair in more
    ]
    examples = task.examples(tokenizer, split="all")
    assert len(examples) == 15  # a summary of other words can be trained on
    assert {row.source for row in examples.skipped} == REASONS.keys() - {"mixed.jsonl, line 6"}
    with pytest.raises(
        CircuitsError, match=r"mixed.jsonl, split 'all': 15 are asked for, and 14 of 18 rows can"
    ):
        task.pairs(tokenizer, 15, split="all")


def test_every_row_is_in_one_split_or_left_out_of_all(mixed, tokenizer):
    task = tasks.load("summarization", path=mixed, corruption="filler", skip=True)
    seen, skipped = [], set()
    for split in ("train", "validation", "test"):
        pairs = task.pairs(tokenizer, split=split)
        seen += [pair.source for pair in pairs]
        skipped |= {row.source for row in pairs.skipped}
    assert len(seen) == len(set(seen)) == 15 and not skipped & set(seen)
    with pytest.raises(CircuitsError, match="line 3: column 'article' is blank"):
        tasks.load("summarization", path=mixed, corruption="filler").pairs(tokenizer, 2)


def test_what_exceeds_the_window_is_left_out(articles_file, tokenizer):
    options = {"path": articles_file, "corruption": "filler"}
    lengths = sorted(
        len(pair) for pair in tasks.load("summarization", **options).pairs(tokenizer, split="all")
    )
    task = tasks.load("summarization", skip=True, **options)
    kept = task.pairs(tokenizer, split="all", n_ctx=lengths[9])
    assert 10 <= len(kept) < 18 and max(len(pair) for pair in kept) == lengths[9]
    assert all("context window" in row.reason for row in kept.skipped)
    with pytest.raises(CircuitsError, match=r"0 of 18 rows can be used \(18 rows left out: 18 x"):
        task.pairs(tokenizer, split="all", n_ctx=3)


def test_no_lender_is_a_reason(tmp_path, tokenizer):
    rows = [
        {"article": "Ana Bell resigned as mayor of Ardon on Monday.", "summary": "Bell resigned."},
        {"article": "It rained.", "summary": "It rained."},
    ]
    path = tmp_path / "two.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    pairs = tasks.load("summarization", path=path, skip=True).pairs(tokenizer, split="all")
    assert [pair.source for pair in pairs] == ["two.jsonl, line 2"]
    (left,) = pairs.skipped
    assert "no other article has" in left.reason


def test_a_dataset_with_a_blank_article(tmp_path, tokenizer):
    rows = [
        {"article": f"Mary went to the store {i}. John said no {i}.", "summary": f"John said {i}."}
        for i in range(20)
    ]
    rows[7]["article"] = ""
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"dataset": str(tmp_path), "corruption": "filler"}
    with pytest.raises(CircuitsError, match="test row 8: column 'article' is blank"):
        tasks.load("summarization", **options).pairs(tokenizer, split="test")
    pairs = tasks.load("summarization", skip=True, **options).pairs(tokenizer, split="test")
    assert len(pairs) == 19
    assert [row.reason for row in pairs.skipped] == ["column 'article' is blank"]


def test_rows_of_a_table_that_do_not_fit(tmp_path, tokenizer):
    good = {"clean": "Ana Bell is", "corrupted": "Ana Dunn is", "correct": " a", "incorrect": " b"}
    rows = [
        {"clean": "Ana", "corrupted": "Dan", "correct": " a"},  # no wrong answer, as the others
        good,
        {**good, "corrupted": "Ana is"},
        {**good, "clean": None},
        {**good, "corrupted": good["clean"]},
        {**good, "clean": good["clean"] + "<|endoftext|>"},
        {"clean": [1], "corrupted": [2], "correct_idx": 10**6, "incorrect_idx": 3},
        {"clean": [1], "corrupted": [2], "correct_idx": 4, "incorrect_idx": 3},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    pairs = tasks.load("table", path=path, skip=True).pairs(tokenizer)
    assert pairs.metric == "logit-difference"
    assert [pair.source[-1] for pair in pairs] == ["2", "8"]
    reasons = [row.reason for row in pairs.skipped]
    for reason, what in zip(
        reasons,
        ["no wrong answer", "equal lengths", "no value in", "identical", "control", "vocabulary"],
        strict=True,
    ):
        assert what in reason
    again = tmp_path / "saved.jsonl"
    pairs.save(again)
    assert PairSet.load(again) == pairs
    with pytest.raises(CircuitsError, match="line 2: a wrong answer, where"):
        tasks.load("table", path=path)


def test_the_line_tells_how_many_and_why():
    rows = [Skipped(f"a.csv, row {i}", f"{i} tokens, but the window holds 9") for i in range(3)]
    rows += [Skipped("a.csv, row 9", "column 'x' is blank")]
    assert described(rows) == (
        "4 rows left out: 3 x 0 tokens, but the window holds 9; 1 x column 'x' is blank"
    )
    assert described(rows[-1:]) == "1 row left out: 1 x column 'x' is blank"
    many = [Skipped("r", reason) for reason in "abcdef"]
    assert described(many).endswith("1 x d; 2 more reasons")


def test_lines_that_cannot_be_read(tmp_path, tokenizer, articles):
    path = tmp_path / "articles.jsonl"
    lines = [json.dumps(row) for row in articles]
    lines[3] = lines[3][:40]  # as a full disk leaves it
    path.write_text("\n".join(lines))
    options = {"path": path, "corruption": "filler"}
    with pytest.raises(CircuitsError, match=r"^articles.jsonl, line 4: not JSON"):
        tasks.load("summarization", **options).pairs(tokenizer, split="all")
    pairs = tasks.load("summarization", skip=True, **options).pairs(tokenizer, 5, split="all")
    assert [row.source for row in pairs.skipped] == ["articles.jsonl, line 4"]
    table = tmp_path / "pairs.csv"
    table.write_text(
        "clean,corrupted,correct\nAna Bell is,Ana Dunn is, a\nAna,Dan\n"
        "Ana Bell was,Ana Dunn was, a\n"
    )
    pairs = tasks.load("table", path=table, skip=True).pairs(tokenizer)
    assert [pair.source[-1] for pair in pairs] == ["1", "3"]
    (left,) = pairs.skipped
    assert left.source == "pairs.csv, row 2" and left.reason.startswith("2 cells, but")
