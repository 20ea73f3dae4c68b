"""Columns of any data set, and the corruptions that are made of them."""

import json
import re

import datasets
import pytest
from tokenizers_of_texts import byte_pairs_of

import tasks
from tasks.errors import CircuitsError
from tasks.text.tokens import encode

ROWS = [
    {"country": "France", "capital": "Paris", "question": "The capital of France is"},
    {"country": "Italy", "capital": "Rome", "question": "The capital of Italy is"},
    {"country": "Peru", "capital": "Lima", "question": "The capital of Peru is"},
]
KUWAIT = {"country": "Kuwait", "capital": "Kuwait City", "question": "The capital of Kuwait is"}


@pytest.fixture(scope="module")
def words():
    texts = [f" {cell}" for row in [*ROWS, KUWAIT] for cell in row.values()]
    more = " The film was also not still good bad in lies stands near . It is the film ."
    return byte_pairs_of([*texts * 9, *more.replace(" ", "\n ").split("\n") * 40], 600)


@pytest.fixture
def load(tmp_path):
    def make(rows, **options):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tasks.load("huggingface", path=path, **options)

    return make


CAPITALS = {"prompt": "question", "answer": "capital", "part": "country"}


def test_entities_are_swapped_with_their_answers(load, words):
    made = load(ROWS, **CAPITALS).pairs(words)
    assert (made.task, made.split, made.metric) == ("huggingface", "all", "logit-difference")
    by_country = {row["country"]: row["capital"] for row in ROWS}
    for pair, row in zip(made, ROWS, strict=True):
        assert words.decode(pair.clean) == row["question"]
        other = re.fullmatch("The capital of (.*) is", words.decode(pair.corrupted))[1]
        assert other != row["country"]
        assert pair.answer == (encode(words, f" {row['capital']}"),)
        assert pair.wrong == (encode(words, f" {by_country[other]}"),)
        assert [words.decode(pair.clean[a:b]) for a, b in pair.spans] == [f" {row['country']}"]
    assert made.fingerprint == load(ROWS, **CAPITALS).pairs(words).fingerprint
    few = load(ROWS, **CAPITALS).pairs(words, 2, seed=3)
    assert few.pairs == load(ROWS, **CAPITALS).pairs(words, 3, seed=3).pairs[:2]


def test_templates_and_a_wrong_answer_of_ones_own(load, words):
    rows = [{**row, "bad": "Rome" if row["capital"] == "Paris" else "Paris"} for row in ROWS[:3]]
    task = load(
        rows, prompt="It is in {country} near", answer=" {capital}", wrong="bad", part="country"
    )
    for pair, row in zip(task.pairs(words), rows, strict=True):
        assert words.decode(pair.clean) == f"It is in {row['country']} near"
        assert pair.wrong == (encode(words, f" {row['bad']}"),)
    with pytest.raises(
        CircuitsError, match=r"^rows.jsonl, line 1: the answer 'Paris' stands right b"
    ):
        load(rows, prompt="{country} near", answer="{capital}", part="country").pairs(words)


def test_an_entity_without_another_row_is_left_out(load, words):
    """Of Kuwait no other answer has two tokens; with a wrong answer of its own it is taken."""
    made = load([*ROWS, KUWAIT], **CAPITALS).pairs(words)
    assert len(made) == 3
    (gone,) = made.skipped
    assert gone.source == "rows.jsonl, line 4"
    assert "no other row of the split has a country of as many tokens" in gone.reason
    rows = [{**row, "bad": "Kuwait"} for row in ROWS] + [{**KUWAIT, "bad": "Kuwait Lima"}]
    pair = load(rows, **CAPITALS, wrong="bad").pairs(words)[3]
    assert pair.answer == tuple((one,) for one in encode(words, " Kuwait City"))
    assert pair.wrong == ((), encode(words, " Lima"))  # the first token is in both


def test_a_paraphrase_keeps_the_answer(load, words):
    rows = [{"text": f"Paris {verb} in", "answer": "France"} for verb in ("is", "lies", "stands")]
    task = load(
        rows, prompt="text", answer="answer", corruption="paraphrase", wordings="is|lies|stands"
    )
    made = task.pairs(words)
    assert made.metric == "answer-log-probability" and not made[0].wrong
    said = [words.decode(pair.corrupted) for pair in made]
    assert said == ["Paris lies in", "Paris stands in", "Paris is in"]


def test_negation_is_one_word_against_a_neutral_one(load, words):
    rows = [
        {"text": "The film is", "answer": "good"},
        {"text": "The film was not good . It is", "answer": "bad"},
    ]
    made = load(rows, prompt="text", answer="answer", corruption="negation").pairs(words)
    assert [(words.decode(one.clean), words.decode(one.corrupted)) for one in made] == [
        ("The film is also", "The film is not"),
        ("The film was not good . It is", "The film was also good . It is"),
    ]
    assert all(len(pair.spans) == 1 for pair in made)


@pytest.mark.parametrize("part", [None, "country"])
def test_tokens_are_shuffled_or_masked(load, words, part):
    rows = [{**row, "country": "capital of " + row["country"]} for row in ROWS[:3]]
    options = {"prompt": "question", "answer": "capital", "part": part}
    shuffled = load(rows, **options, corruption="shuffle").pairs(words)
    masked = load(rows, **options, corruption="mask", filler=" film").pairs(words)
    (film,) = encode(words, " film")
    for pair, other, row in zip(shuffled, masked, rows, strict=True):
        assert sorted(pair.clean) == sorted(pair.corrupted) and pair.clean != pair.corrupted
        inside = len(pair.clean) if part is None else len(encode(words, f" {row['country']}"))
        assert other.corrupted.count(film) == inside
        start, end = (0, len(pair.clean)) if part is None else (1, 1 + inside)
        for one in (pair, other):
            assert all(start <= a and b <= end for a, b in one.spans)
    again = load(rows, **options, corruption="shuffle").pairs(words)
    assert again.fingerprint == shuffled.fingerprint
    assert load(rows, **options, corruption="shuffle").pairs(words, seed=1).fingerprint != (
        shuffled.fingerprint
    )
    with pytest.raises(
        CircuitsError, match=r"line 1: the filler ' a b' is . tokens; it must be one"
    ):
        load(rows, **options, corruption="mask", filler=" a b").pairs(words)


def test_labels_are_words_and_all_others_are_wrong(load, words):
    rows = [
        {"text": "The film was good . It is", "label": 1},
        {"text": "The film was bad", "label": 0},
    ]
    options = {"prompt": "text", "answer": "label", "corruption": "negation"}
    made = load(rows, labels=" bad| good| still", **options).pairs(words)
    ids = {name: encode(words, f" {name}")[0] for name in ("bad", "good", "still")}
    assert (made[0].answer, made[0].wrong) == (((ids["good"],),), ((ids["bad"], ids["still"]),))
    assert (made[1].answer, made[1].wrong) == (((ids["bad"],),), ((ids["good"], ids["still"]),))
    with pytest.raises(CircuitsError, match="line 1: column 'label' holds '1', where the labels a"):
        load([{**rows[0], "label": "1"}, rows[1]], labels=" a| b", **options).pairs(words)


def test_a_column_of_the_data_set_and_all_its_splits(words, tmp_path):
    rows = [{**row, "other": row["question"].replace(row["country"], "Peru")} for row in ROWS[:2]]
    parts = {name: datasets.Dataset.from_list(rows) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "files").mkdir()
    for name, part in parts.items():
        part.to_json(tmp_path / "files" / f"{name}.jsonl")
    options = {
        "prompt": "question",
        "answer": "capital",
        "corruption": "column",
        "corrupted": "other",
    }
    for folder in ("saved", "files"):
        task = tasks.load("huggingface", path=tmp_path / folder, **options)
        assert [len(task.pairs(words, split=one)) for one in ("train", "test", "all")] == [2, 2, 4]
        assert words.decode(task.pairs(words)[0].corrupted) == "The capital of Peru is"
        assert task.files


OF_ALL = {"prompt": "question", "answer": "capital"}


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        ({"question": None}, CAPITALS, "no value in column 'question'"),
        ({"capital": " "}, CAPITALS, "column 'capital' is blank"),
        ({"country": "Spain"}, CAPITALS, "'Spain' does not stand in the prompt 'The capital of F"),
        ({"question": "The <|endoftext|> France"}, CAPITALS, "the control token '<|endoftext|>'"),
        (
            {"question": "Paris near"},
            {**OF_ALL, "corruption": "paraphrase", "wordings": "of|in"},
            "none of the wordings 'of', 'in' stands in the prompt",
        ),
        (
            {"question": "It is in France near"},
            {**OF_ALL, "corruption": "paraphrase", "wordings": "in|of|in France near"},
            "tokens and the corrupted one (paraphrase) ",
        ),
        (
            {"question": "Paris lies in"},
            {**OF_ALL, "corruption": "negation"},
            "no auxiliary verb (is, are, was, were, ...) stands in the prompt",
        ),
        (
            {"other": ROWS[0]["question"]},
            {**OF_ALL, "corruption": "column", "corrupted": "other"},
            "the clean and the corrupted prompt (column) are identical",
        ),
        (
            {"country": "Spain"},
            {**CAPITALS, "corruption": "mask", "filler": " film"},
            "'Spain' does not stand in the prompt",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named_or_left_out(load, words, cells, options, message):
    others = [{**row, "other": "The film is in Peru near"} for row in ROWS[1:]]
    rows = [{**ROWS[0], **cells}, *others]
    with pytest.raises(CircuitsError) as error:
        load(rows, **options).pairs(words)
    assert str(error.value).startswith("rows.jsonl, line 1: ") and message in str(error.value)
    assert "\n" not in str(error.value)
    if options.get("corruption") in (None, "mask", "negation"):
        kept = load(rows, **options, skip=True).pairs(words)
        assert len(kept) == 2 and message in kept.skipped[0].reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruption": "swap"}, "unknown corruption 'swap'; known: entity, paraphrase, negation"),
        ({"part": None}, "corruption 'entity' needs the option part"),
        ({"corruption": "negation"}, "part goes with corruption entity or shuffle or mask"),
        ({"wordings": "a|b"}, "wordings goes with corruption paraphrase"),
        (
            {"corruption": "paraphrase", "part": None, "wordings": "a"},
            "give two or more, as in a|b",
        ),
        ({"labels": "a"}, "labels='a': give two or more"),
        ({"path": "nowhere"}, "nowhere: no such file or folder"),
        ({"dataset": "a/b"}, "give either path= .* or dataset="),
        ({"revision": "main"}, "revision: a local file has none"),
    ],
)
def test_options_that_are_wrong_are_refused(load, options, message):
    with pytest.raises(CircuitsError, match=message.replace("|", r"\|")):
        load(ROWS, **{**CAPITALS, **options}) if "path" not in options else tasks.load(
            "huggingface", **CAPITALS, **options
        )
