import csv
import json

import pytest

import tasks
from tasks.errors import CircuitsError
from tasks.text.tokens import encode

COLUMNS = {
    "clean": "Ana Bell resigned as mayor of",
    "corrupted": "Ana Bell resigned as judge of",
    "correct": " Ardon",
    "incorrect": " Dalby",
}


@pytest.fixture
def table(tmp_path):
    def write(*rows, name="pairs.csv", **options):
        path = tmp_path / name
        if name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return tasks.load("table", path=path, **options)

    return write


def test_texts(table, tokenizer):
    task = table(COLUMNS, {**COLUMNS, "correct": " Dalby", "incorrect": " Ardon"})
    pairs = task.pairs(tokenizer, n_ctx=20)
    assert (pairs.task, pairs.split, pairs.metric) == ("table", "all", "logit-difference")
    assert tokenizer.decode(pairs[0].clean) == COLUMNS["clean"]
    assert tokenizer.decode(pairs[0].corrupted) == COLUMNS["corrupted"]
    assert pairs[0].answer == (encode(tokenizer, " Ardon"),) == pairs[1].wrong
    assert pairs[0].wrong == (encode(tokenizer, " Dalby"),)
    assert [tokenizer.decode(pairs[0].clean[a:b]) for a, b in pairs[0].spans] == [" mayor"]
    assert [pair.source for pair in pairs] == ["pairs.csv, row 1", "pairs.csv, row 2"]


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl"])
def test_ids_as_eap_ig_writes_them(table, tokenizer, name):
    rows = [
        {"": 0, "clean": "Ana Bell", "corrupted": "Eva Bell", "correct_idx": 7, "incorrect_idx": 8},
        {
            "": 1,
            "clean": "[5, 6, 7]" if name.endswith(".csv") else [5, 6, 7],
            "corrupted": "[5, 9, 9]" if name.endswith(".csv") else [5, 9, 9],
            "correct_idx": "[10, 11]",
            "incorrect_idx": "12.0",
        },
    ]
    pairs = table(*rows, name=name).pairs(tokenizer)
    assert (pairs[0].answer, pairs[0].wrong) == (((7,),), ((8,),))
    assert (pairs[1].clean, pairs[1].corrupted, pairs[1].spans) == ((5, 6, 7), (5, 9, 9), ((1, 3),))
    assert (pairs[1].answer, pairs[1].wrong) == (((10, 11),), ((12,),))


def test_numbers_are_texts_in_the_text_columns(table, tokenizer):
    row = {"clean": "1932", "corrupted": "1933", "correct": "4"}
    pairs = table(row).pairs(tokenizer)
    assert tokenizer.decode(pairs[0].clean) == "1932"
    assert tokenizer.decode(pairs[0].answer[0]) == "4"


def test_answers_of_several_tokens_and_several_answers(table, tokenizer):
    pairs = table({**COLUMNS, "correct": " Ardon.", "incorrect": " Dalby."}).pairs(tokenizer)
    assert [len(tokens) for tokens in pairs[0].answer] == [1, 1]
    assert [len(tokens) for tokens in pairs[0].wrong] == [1, 0]  # the full stop is in both
    pairs = table({**COLUMNS, "correct": '[" Ardon", " Corvin"]'}).pairs(tokenizer)
    assert len(pairs[0].answer) == 1 and len(pairs[0].answer[0]) == 2


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl"])
def test_columns_of_other_names(table, tokenizer, name):
    """As in EAP-IG's file on hypernymy: lists as Python writes them, and both texts and ids."""
    row = {
        "clean": "nothing",
        "prompt": "Ana Bell resigned as mayor of",
        "corrupted": "nothing",
        "corrupted_hard": "Ana Bell resigned as judge of",
        "answers": "[' Ardon', \" Corvin\"]",
        "answers_idx": "[7, 8]",
        "corrupted_answers": "[' Dalby']",
        "corrupted_answers_idx": "[9]",
    }
    prompts = {"clean": "prompt", "corrupted": "corrupted_hard"}
    ids = table(row, name=name, **prompts, correct="answers_idx", incorrect="corrupted_answers_idx")
    (pair,) = ids.pairs(tokenizer)
    assert ids.metric == "logit-difference"
    assert tokenizer.decode(pair.clean) == row["prompt"]
    assert tokenizer.decode(pair.corrupted) == row["corrupted_hard"]
    assert (pair.answer, pair.wrong) == (((7, 8),), ((9,),))
    texts = table(row, name=name, **prompts, correct="answers", incorrect="corrupted_answers")
    (pair,) = texts.pairs(tokenizer)
    assert pair.answer == (encode(tokenizer, " Ardon") + encode(tokenizer, " Corvin"),)
    assert pair.wrong == (encode(tokenizer, " Dalby"),)
    assert table(row, name=name, **prompts, correct="answers").metric == "answer-log-probability"


@pytest.mark.parametrize("indent", [None, 2])
def test_the_prompt_files_of_autocircuit(tokenizer, tmp_path, indent):
    """As `load_datasets_from_json` of AutoCircuit reads them: texts or ids, answers in lists."""
    texts = {"clean": COLUMNS["clean"], "corrupt": COLUMNS["corrupted"]}
    right, wrong = COLUMNS["correct"], COLUMNS["incorrect"]
    record = {
        "seq_labels": ["BOS", "Ana"],
        "word_idxs": {"S": 2},
        "prompts": [
            {**texts, "answers": [right], "wrong_answers": [wrong]},
            {**texts, "answers": [right, " Corvin"], "wrong_answers": [wrong]},
            {"clean": [5, 6], "corrupt": [5, 7], "answers": [8, 9], "wrong_answers": [10]},
        ],
    }
    path = tmp_path / "ac.json"
    path.write_text(json.dumps(record, indent=indent))
    task = tasks.load("table", path=path)
    assert task.metric == "logit-difference"
    first, second, third = task.pairs(tokenizer)
    assert [pair.source for pair in (first, third)] == ["ac.json, row 1", "ac.json, row 3"]
    assert first.clean == encode(tokenizer, COLUMNS["clean"])
    assert first.corrupted == encode(tokenizer, COLUMNS["corrupted"])
    assert first.answer == tuple((token,) for token in encode(tokenizer, right))
    assert second.answer == (encode(tokenizer, right) + encode(tokenizer, " Corvin"),)
    assert second.wrong == (encode(tokenizer, wrong),)
    assert (third.clean, third.corrupted) == ((5, 6), (5, 7))
    assert (third.answer, third.wrong) == (((8, 9),), ((10,),))
    path.write_text(json.dumps({**record, "weights": [1.0]}, indent=indent))
    with pytest.raises(CircuitsError, match=r"ac\.json: the key 'weights' beside 'prompts'"):
        tasks.load("table", path=path).pairs(tokenizer)
    record["prompts"][2]["answers"] = [[0.5, 0.5]]  # of a Tracr model: no vocabulary
    path.write_text(json.dumps(record))
    with pytest.raises(CircuitsError, match=r"ac\.json, row 3: column 'correct'"):
        tasks.load("table", path=path).pairs(tokenizer)


def test_a_column_that_is_not_there_is_named(table, tokenizer):
    with pytest.raises(CircuitsError, match=r"row 1: no value in column 'worse'; .*'incorrect'"):
        table(COLUMNS, incorrect="worse")
    with pytest.raises(CircuitsError, match=r"row 1: no value in column 'better'; .*'correct'"):
        table(COLUMNS, correct="better").pairs(tokenizer)
    with pytest.raises(CircuitsError, match=r"row 1: no value in column 'prompt'"):
        table(COLUMNS, clean="prompt").pairs(tokenizer)


@pytest.mark.parametrize("year", ["32", "04"])
def test_the_end_of_a_year_is_no_token_id(table, tokenizer, year):
    row = {
        "clean": f"The war lasted from the year 17{year} to the year 17",
        "corrupted": "The war lasted from the year 1701 to the year 17",
    }
    with pytest.raises(CircuitsError, match=r"^pairs\.csv, row 2: 0?\d+ is the end of the year"):
        table({**row, "correct_idx": 77}, {**row, "correct_idx": int(year)}).pairs(tokenizer)
    assert len(table({**row, "correct_idx": year, "incorrect_idx": 9}).pairs(tokenizer)) == 1


def test_without_wrong_answers_the_metric_is_the_log_probability(table, tokenizer):
    task = table({**COLUMNS, "incorrect": ""})
    assert task.metric == "answer-log-probability"
    assert task.pairs(tokenizer)[0].wrong == ()


def test_samples_and_splits(table, tokenizer):
    rows = [{**COLUMNS, "clean": f"{c} as mayor", "corrupted": f"{c} as judge"} for c in "abcdefgh"]
    task = table(*rows)
    everything = task.pairs(tokenizer)
    assert [pair.source[-5:] for pair in everything] == [f"row {i}" for i in range(1, 9)]
    three = task.pairs(tokenizer, 3, seed=1)
    assert (
        three.pairs
        == task.pairs(tokenizer, 3, seed=1).pairs
        == task.pairs(tokenizer, 5, seed=1).pairs[:3]
    )
    with pytest.raises(CircuitsError, match=r"pairs\.csv, split 'all': 9 rows are asked for, and"):
        task.pairs(tokenizer, 9)
    marked = table(
        *({**row, "split": s} for row, s in zip(rows, ["train", "test"] * 4, strict=True))
    )
    assert len(marked.pairs(tokenizer)) == 8
    assert {pair.source for pair in marked.pairs(tokenizer, split="test")} == {
        f"pairs.csv, row {i}" for i in (2, 4, 6, 8)
    }


def test_add_bos(table, tokenizer):
    table(COLUMNS)
    path = table(COLUMNS).path
    pair = tasks.load("table", path=path, add_bos=True).pairs(tokenizer)[0]
    assert pair.clean[0] == pair.corrupted[0] == tokenizer.bos_token_id
    assert pair.clean[1:] == tasks.load("table", path=path).pairs(tokenizer)[0].clean


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corrupted": "Ana Bell"}, "the clean prompt has .* tokens and the corrupted one"),
        ({"corrupted": COLUMNS["clean"]}, "the clean and the corrupted prompt are identical"),
        ({"clean": ""}, "the clean prompt has no tokens"),
        ({"clean": "[1, 2.5]"}, "column 'clean' holds 2.5, which is not a token id"),
        ({"correct": ""}, "neither of 'correct' and 'correct_idx' given"),
        ({"correct_idx": "3"}, "both of 'correct' and 'correct_idx' given"),
        ({"correct": "", "correct_idx": "Ardon"}, "'correct_idx' holds 'Ardon', which is not a"),
        ({"correct": "", "correct_idx": "-1"}, "token id -1 is outside the model's vocabulary"),
        ({"correct": "", "correct_idx": "99999"}, "token id 99999 is outside the model's voc"),
        ({"correct": '[""]'}, "the answer '' in 'correct' is no token"),
        ({"correct": '[" Ardon."]'}, "lists ' Ardon.', which is 2 tokens"),
        ({"correct": " Ardon and Dalby"}, "the answer has .* positions and the wrong answer 1"),
        ({"correct": " Dalby"}, "is both right and wrong"),
        ({"correct": " Ardon.", "incorrect": " Ardon."}, "is both right and wrong"),
        ({"clean": "Ana Bell resign", "correct": "ed"}, "'ed' merges with the end of"),
        ({"incorrect": ""}, "no wrong answer, where pairs.csv, row 1 has one"),
    ],
)
def test_a_bad_row_is_named(table, tokenizer, change, message):
    rows = [{**COLUMNS, "correct_idx": ""}] * 2
    with pytest.raises(CircuitsError, match=rf"^pairs\.csv, row 3: .*{message}"):
        table(*rows, {**rows[0], **change}).pairs(tokenizer)


def test_a_model_may_have_rows_beyond_its_tokenizers_tokens(table, tokenizer):
    padded = len(tokenizer) + 30
    row = {"clean": f"[5, {padded}]", "corrupted": "[5, 6]", "correct_idx": 7}
    assert table(row).pairs(tokenizer)[0].clean == (5, padded)  # the model knows its own rows
    with pytest.raises(
        CircuitsError, match=f"the tokenizer has {len(tokenizer)} tokens, and a mod"
    ):
        table({**row, "correct_idx": 20_000}).pairs(tokenizer)


def test_bad_files(table, tokenizer, tmp_path):
    with pytest.raises(CircuitsError, match=r"none\.csv: no such file"):
        tasks.load("table", path=tmp_path / "none.csv")
    with pytest.raises(CircuitsError, match=r"row 1: no value in column 'clean'.*: 'a'"):
        table({"a": "b"}).pairs(tokenizer)
    with pytest.raises(CircuitsError, match=r"^pairs\.csv, row 1: .* context window holds 5"):
        table(COLUMNS).pairs(tokenizer, n_ctx=5)
    with pytest.raises(CircuitsError, match=r"line 1: column 'clean' holds 3, which is neither"):
        table({**COLUMNS, "clean": 3}, name="pairs.jsonl").pairs(tokenizer)
    with pytest.raises(CircuitsError, match=r"line 1: column 'correct' holds 3, which is not text"):
        table({**COLUMNS, "correct": 3}, name="pairs.jsonl").pairs(tokenizer)
