"""Articles from a stream: the rows, splits and pairs that a file read whole has."""

import csv
import json
import pickle

import pytest

import tasks
from tasks.builtin.summarization.donors import Donors
from tasks.builtin.summarization.sample import SEARCHED, DrawnSample, StreamedSample
from tasks.errors import CircuitsError, TooFewError
from tasks.files import Row
from tasks.pairs import TrainingExample
from tasks.skipping import Skipped
from tasks.stored import StoredExamples


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def rows(articles):
    """Twice as many as are looked ahead at, and more, each with its own text."""
    return [
        {**articles[i % 18], "article": articles[i % 18]["article"] + f" It was day {i}."}
        for i in range(30)
    ]


def written(folder, rows, suffix):
    path = folder / f"articles{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="," if suffix == ".csv" else "\t")
            table.writeheader()
            table.writerows(rows)
    else:
        import pandas as pd

        pd.DataFrame(rows).to_parquet(path)
    return path


def whole_and_streamed(path, **options):
    return (
        tasks.load("summarization", path=path, **options),
        tasks.load("summarization", path=path, stream=True, **options),
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_all_rows_are_those_of_the_file(suffix, tmp_path, rows, tokenizer):
    whole, streamed = whole_and_streamed(written(tmp_path, rows, suffix))
    for split in ("all", "train"):
        expected = whole.examples(tokenizer, split=split)
        found = streamed.examples(tokenizer, split=split)
        assert isinstance(found, StoredExamples) and len(found) == len(expected) > 10
        for one, other in zip(found, expected, strict=True):
            assert (one.prompt, one.target) == (other.prompt, other.target)
        assert found[0].source.startswith(f"articles{suffix}, row ")
    assert list(streamed.pairs(tokenizer, split="all")) == [
        pair.__class__(**{**vars(pair), "source": f"articles{suffix}, row {number}"})
        for number, pair in enumerate(whole.pairs(tokenizer, split="all"), start=1)
    ]
    shown = streamed.annotate(tokenizer, 3, split="all")
    texts = [one.text for one in shown]
    assert texts == [
        tokenizer.decode(one.prompt).removesuffix(" TL;DR:")
        for one in streamed.examples(tokenizer, 3, split="all")
    ]


def test_a_draw_is_mixed_by_the_seed_and_grows_at_its_end(tmp_path, rows, tokenizer):
    _, streamed = whole_and_streamed(written(tmp_path, rows, ".jsonl"))

    def sources(n, seed):
        return [one.source for one in streamed.examples(tokenizer, n, split="all", seed=seed)]

    assert sources(20, 1)[:8] == sources(8, 1) != sources(8, 2)
    assert len(set(sources(30, 1))) == 30
    assert sources(30, 1) != sorted(sources(30, 1))
    pairs = streamed.pairs(tokenizer, 8, split="all", seed=1)
    assert [pair.source for pair in pairs] == sources(8, 1)
    with pytest.raises(TooFewError, match=r"31 are asked for, and 30 of 30 rows can be used"):
        streamed.examples(tokenizer, 31, split="all")
    with pytest.raises(CircuitsError, match="0 rows asked for"):
        streamed.examples(tokenizer, 0, split="all")


@pytest.mark.parametrize("there", [1, 2, SEARCHED, SEARCHED + 1, SEARCHED + 2, 30])
def test_a_stream_looks_ahead_as_a_list_does(there, rows, tokenizer):
    from tasks.builtin.summarization.articles import Articles

    made = [Row(f"row {i}", row) for i, row in enumerate(rows[:there])]
    drawn = DrawnSample(Articles(made, "article", "highlights"), range(there))
    streamed = StreamedSample(iter(made), (None, None), [])
    donors = [Donors(tokenizer, sample, skip=False) for sample in (drawn, streamed)]
    seen = 0
    for place in streamed.places():
        assert streamed.article(place) == drawn.article(place)
        assert streamed.following(place) == drawn.following(place)
        assert donors[1].after(place) == donors[0].after(place)
        assert len(streamed._held) <= 2 * SEARCHED + 2
        seen += 1
    assert seen == there == len(list(drawn.places()))


def test_rows_that_cannot_be_used_are_named_or_left_out(tmp_path, rows, tokenizer):
    rows = [{**row, "split": "train"} for row in rows]
    rows[1]["split"], rows[2]["highlights"] = "later", " "
    path = written(tmp_path, rows, ".jsonl")
    _, strict = whole_and_streamed(path)
    with pytest.raises(CircuitsError, match=r"articles\.jsonl, row 2: 'later' is not a split"):
        strict.examples(tokenizer)
    whole, lenient = whole_and_streamed(path, skip=True)
    found, expected = lenient.examples(tokenizer), whole.examples(tokenizer)
    assert [one.prompt for one in found] == [one.prompt for one in expected]
    assert found.skipped == (
        Skipped(
            "articles.jsonl, row 2",
            "'later' is not a split; it is one of: train, validation, valid, val, dev, test",
        ),
        Skipped("articles.jsonl, row 3", "column 'highlights' is blank"),
    )
    assert len(lenient.annotate(tokenizer)) == 28


def test_datasets_of_several_splits(tmp_path, rows, tokenizer):
    import datasets

    folder = tmp_path / "news"
    folder.mkdir()
    for split, part in (("train", rows[:20]), ("test", rows[20:])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    saved = tmp_path / "saved"
    datasets.load_dataset(str(folder)).save_to_disk(saved)
    for place in (folder, saved):
        whole = tasks.load("summarization", dataset=str(place))
        streamed = tasks.load("summarization", dataset=str(place), stream=True)
        for split, count in (("train", 20), ("test", 10), ("all", 30)):
            found = streamed.examples(tokenizer, split=split)
            assert list(found) == list(whole.examples(tokenizer, split=split))
            assert len(found) == count
        with pytest.raises(CircuitsError, match=r"no split 'validation'; it has: train, test"):
            streamed.examples(tokenizer, split="validation")
    by_path = tasks.load("summarization", path=saved, stream=True)
    assert len(by_path.examples(tokenizer, split="test")) == 10


def test_a_known_dataset_is_streamed_from_the_hub(tmp_path, rows, tokenizer, monkeypatch):
    import datasets

    path = written(
        tmp_path, [{"dialogue": r["article"], "summary": r["highlights"]} for r in rows], ".jsonl"
    )
    local = datasets.load_dataset("json", data_files={"train": str(path)}, streaming=True)
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return local

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = tasks.load("summarization", dataset="samsum", stream=True)
    assert len(task.examples(tokenizer, 4)) == 4
    assert asked == [(("knkarthick/samsum", None), {"revision": None, "streaming": True})]


def test_a_stream_that_breaks_off_is_one_line(tmp_path, rows, tokenizer):
    path = written(tmp_path, rows, ".jsonl")
    path.write_text(path.read_text() + '{"article": "half')
    with pytest.raises(CircuitsError, match=r"articles\.jsonl: the stream cannot be read on") as e:
        tasks.load("summarization", path=path, stream=True).examples(tokenizer, split="all")
    assert "\n" not in str(e.value)
    other = tmp_path / "articles.txt"
    other.write_text("x")
    with pytest.raises(CircuitsError, match=r"the ending '\.txt' is not one of \.jsonl"):
        tasks.load("summarization", path=other, stream=True).examples(tokenizer, split="all")


def test_stored_examples_are_what_was_stored():
    made = [TrainingExample((1, 2**31 - 1), (3,), "Zürich, row 1"), TrainingExample((4,), (5, 6))]
    stored = StoredExamples(iter(made))
    assert list(stored) == made and list(stored) == made
    assert stored[1] == stored[-1] == made[1] and stored[0:1] == made[:1] and len(stored) == 2
    with pytest.raises(IndexError):
        stored[2]
    assert list(StoredExamples([])) == []
    assert list(pickle.loads(pickle.dumps(stored))) == made
