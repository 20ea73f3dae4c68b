"""MIB's tasks, read from small copies that have its columns."""

import json

import datasets
import mib_rows
import pytest
from tokenizers import Tokenizer, models
from tokenizers_of_texts import byte_pairs_of
from transformers import PreTrainedTokenizerFast

import tasks
from tasks.errors import CircuitsError

COLOURS = ["red", "blue", "green", "gray"]
NAMES = [("Anna", "Mark", "Paul"), ("Lucy", "Adam", "Eric"), ("Emma", "John", "Luke")]


@pytest.fixture(scope="module")
def words():
    """Every word here is one token, but for the names Theodora and Maximilian."""
    names = [f" {name}" for names in NAMES for name in names]
    things = [" When", " and", " went to the market", " gave a coin to", " Answer", " result of"]
    colours = [f" {colour}" for colour in (*COLOURS, "box", "cup")]
    numbers = [str(number) for number in range(10, 100)]
    return byte_pairs_of([*(names + things + colours) * 20, *numbers * 20], 700)


def alone(tokenizer, text):
    """What MIB's code takes of an answer: the first token of the text by itself."""
    return tokenizer(text, add_special_tokens=False)["input_ids"][0]


@pytest.fixture
def ioi_file(tmp_path):
    rows = [mib_rows.ioi(*names) for names in NAMES]
    rows += [mib_rows.ioi("Theodora", "Mark", "Paul"), mib_rows.ioi("Mark", "Anna", "Paul")]
    rows += [mib_rows.ioi("Paul", "Lucy", "Emma", split=one) for one in ("validation", "test")]
    return mib_rows.write(tmp_path / "ioi.jsonl", rows)


def test_ioi_is_read_as_mib_reads_it(words, ioi_file):
    pairs = tasks.load("mib-ioi", path=ioi_file).pairs(words)
    assert (pairs.task, pairs.split, pairs.metric) == ("mib-ioi", "train", "logit-difference")
    begin = (words.bos_token_id,)
    for pair, (one, two, _) in zip(pairs, [*NAMES, ("Mark", "Anna", "Paul")], strict=True):
        text = f"When {one} and {two} went to the market, {{}} gave a coin to"
        assert pair.clean == (*begin, *words(text.format(two))["input_ids"])
        assert pair.corrupted == (*begin, *words(text.format(one))["input_ids"])
        assert pair.answer == ((alone(words, f" {one}"),),)
        assert pair.wrong == ((alone(words, f" {two}"),),)
        assert [words.decode(pair.clean[a:b]) for a, b in pair.spans] == [f" {two}"]
    assert [row.source for row in pairs.skipped] == ["ioi.jsonl, line 4"]
    assert "MIB's filter: answers of equally many tokens" in pairs.skipped[0].reason


def test_the_first_rows_are_taken_unless_they_are_drawn(words, ioi_file):
    first = tasks.load("mib-ioi", path=ioi_file).pairs(words, 2, seed=5)
    assert [pair.source for pair in first] == ["ioi.jsonl, line 1", "ioi.jsonl, line 2"]
    drawn = tasks.load("mib-ioi", path=ioi_file, draw=True)
    orders = {tuple(pair.source for pair in drawn.pairs(words, 2, seed=s)) for s in range(8)}
    assert len(orders) > 1
    with pytest.raises(CircuitsError, match="5 are asked for, and 4 of 5 rows can be used"):
        drawn.pairs(words, 5)


def test_splits_are_the_data_sets_own(words, ioi_file, tmp_path):
    task = tasks.load("mib-ioi", path=ioi_file)
    found = {split: len(task.pairs(words, split=split)) for split in ("train", "validation", "all")}
    assert found == {"train": 4, "validation": 1, "all": 6}
    bare = [{k: v for k, v in mib_rows.ioi(*names).items() if k != "split"} for names in NAMES]
    task = tasks.load("mib-ioi", path=mib_rows.write(tmp_path / "bare.jsonl", bare))
    with pytest.raises(CircuitsError, match=r"^bare.jsonl: it has no column `split`"):
        task.pairs(words)
    assert len(task.pairs(words, split="all")) == 3


def test_copies_in_other_forms_are_the_same_pairs(words, ioi_file, tmp_path):
    rows = [json.loads(line) for line in ioi_file.read_text().splitlines()]
    by_split = {
        name: datasets.Dataset.from_list([row for row in rows if row["split"] == name])
        for name in ("train", "validation", "test")
    }
    datasets.DatasetDict(by_split).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for name, part in by_split.items():
        part.to_parquet(tmp_path / "hub" / "data" / f"{name}-00000-of-00001.parquet")
    expected = tasks.load("mib-ioi", path=ioi_file).pairs(words)
    for folder in ("saved", "hub"):
        task = tasks.load("mib-ioi", path=tmp_path / folder)
        assert task.pairs(words).fingerprint == expected.fingerprint
        assert len(task.files) > 2
        assert len(task.pairs(words, split="test")) == 1


def test_another_counterfactual(words, ioi_file):
    pairs = tasks.load("mib-ioi", path=ioi_file, counterfactual="abc").pairs(words, 1)
    assert words.decode(pairs[0].corrupted).startswith(
        "<|endoftext|>When Paul and Mark went to the market, Paul gave"
    )
    with pytest.raises(CircuitsError, match="line 1: no counterfactual 'xyz'; the row has: s2_io"):
        tasks.load("mib-ioi", path=ioi_file, counterfactual="xyz").pairs(words)


def test_choices_are_letters_against_numbers(words, tmp_path):
    rows = [mib_rows.choices("box", colour, COLOURS) for colour in COLOURS]
    path = mib_rows.write(tmp_path / "mcqa.jsonl", rows)
    for name in ("mib-mcqa", "mib-arc"):
        pairs = tasks.load(name, path=path).pairs(words)
        for place, pair in enumerate(pairs):
            assert pair.answer == ((alone(words, "ABCD"[place]),),)
            assert pair.wrong == ((alone(words, "1234"[place]),),)
            assert (
                words.decode(pair.corrupted)
                == "<|endoftext|>" + (rows[place]["symbol_counterfactual"]["prompt"])
            )
    spaced = tasks.load("mib-mcqa", path=path, space=True)
    with pytest.raises(CircuitsError, match="right and the wrong answer begin with one token"):
        spaced.pairs(words)  # " A" is a space and a letter with this tokenizer


def test_arithmetic_is_of_one_operator_and_one_token(words, tmp_path):
    rows = [
        mib_rows.arithmetic(12, 34, 50),
        mib_rows.arithmetic(60, 70, 20),  # 130: no token
        mib_rows.arithmetic(12, 34, 12),  # the same result
        mib_rows.arithmetic(80, 20, 70, operator="-"),
        {**mib_rows.arithmetic(10, 30, 20), "random_counterfactual": None},
        mib_rows.arithmetic(10, 30, 20),
    ]
    path = mib_rows.write(tmp_path / "sums.jsonl", rows)
    pairs = tasks.load("mib-arithmetic", path=path).pairs(words)
    assert [pair.source[-1] for pair in pairs] == ["1", "6"]
    assert (pairs[0].answer, pairs[0].wrong) == (((alone(words, "46"),),), ((alone(words, "84"),),))
    reasons = [row.reason for row in pairs.skipped]
    assert "one token each ('130' 2, '90' 1)" in reasons[0]
    assert "begin with one token" in reasons[1] and reasons[2] == "its operator is '-'"
    assert "it has no random_counterfactual" in reasons[3]
    minus = tasks.load("mib-arithmetic", path=path, operator="-").pairs(words)
    assert minus[0].answer == ((alone(words, "60"),),)


def test_a_tokenizer_without_a_begin_token_takes_its_end(words, ioi_file):
    """TransformerLens sets bos to eos where there is no bos."""
    words = PreTrainedTokenizerFast(
        tokenizer_object=words.backend_tokenizer, eos_token="<|endoftext|>"
    )
    pair = tasks.load("mib-ioi", path=ioi_file).pairs(words, 1)[0]
    assert pair.clean[0] == words.eos_token_id
    assert (
        tasks.load("mib-ioi", path=ioi_file, add_bos=False).pairs(words, 1)[0].clean
        == (pair.clean[1:])
    )
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(CircuitsError, match="no beginning-of-text token"):
        tasks.load("mib-ioi", path=ioi_file).pairs(bare)


def broken(row, *, drop=(), **cells):
    return {**{key: value for key, value in row.items() if key not in drop}, **cells}


IOI, MCQA = mib_rows.ioi(*NAMES[0]), mib_rows.choices("box", "red", COLOURS)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("ioi", broken(IOI, drop=["prompt"]), "no value in column 'prompt'"),
        ("ioi", broken(IOI, metadata="x"), "'metadata' holds str, not named values"),
        (
            "ioi",
            broken(IOI, metadata={"subject": "Mark"}),
            "no value 'indirect_object' in 'metadat",
        ),
        ("ioi", broken(IOI, prompt=3), "'prompt' holds int, not text"),
        ("ioi", broken(IOI, prompt=" "), "'prompt' is blank"),
        (
            "ioi",
            broken(IOI, s2_io_flip_counterfactual={"prompt": "When Anna"}),
            "tokens and the corrupted one 4; patching needs equal lengths",
        ),
        ("mcqa", broken(MCQA, answerKey=7), "'answerKey' is 7, where there are 4 choices"),
        ("mcqa", broken(MCQA, choices=3), "'choices' holds no labels"),
        (
            "mcqa",
            broken(MCQA, drop=["symbol_counterfactual"]),
            "no counterfactual 'symbol'; the row",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named_or_left_out(words, tmp_path, name, row, message):
    good = IOI if name == "ioi" else MCQA
    path = mib_rows.write(tmp_path / "rows.jsonl", [good, row])
    task = tasks.load(f"mib-{name}", path=path)
    with pytest.raises(CircuitsError) as error:
        task.pairs(words)
    assert str(error.value).startswith("rows.jsonl, line 2: ") and message in str(error.value)
    assert "\n" not in str(error.value)
    kept = tasks.load(f"mib-{name}", path=path, skip=True).pairs(words)
    assert len(kept) == 1 and message in kept.skipped[0].reason


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mib-arc", {"difficulty": "hard"}, "unknown difficulty 'hard'; known: easy, challenge"),
        ("mib-arithmetic", {"operator": "*"}, "unknown operator '\\*'; known: "),
        ("mib-ioi", {"path": "nowhere.jsonl"}, "nowhere.jsonl: no such file or folder"),
        ("mib-ioi", {"path": "a", "dataset": "b"}, "give either path= .* or dataset="),
        ("mib-ioi", {"add_bos": "yes"}, "add_bos is true or false, or auto"),
    ],
)
def test_options_that_are_wrong_are_refused(name, options, message):
    with pytest.raises(CircuitsError, match=message):
        tasks.load(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "hub_id"),
    [
        ("mib-ioi", {}, "mib-bench/ioi"),
        ("mib-mcqa", {}, "mib-bench/copycolors_mcqa"),
        ("mib-arithmetic", {"operator": "-"}, "mib-bench/arithmetic_subtraction"),
        ("mib-arc", {"difficulty": "challenge"}, "mib-bench/arc_challenge"),
    ],
)
def test_without_a_copy_mibs_own_data_set_is_asked_for(words, monkeypatch, name, options, hub_id):
    asked = []

    def load_dataset(place, config, **given):
        asked.append((place, config))
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = tasks.load(name, **options)
    assert task.files == ()
    with pytest.raises(CircuitsError, match=f"dataset '{hub_id}' cannot be loaded .no network.; W"):
        task.pairs(words)
    assert asked == [(hub_id, "4_answer_choices" if name == "mib-mcqa" else None)]
