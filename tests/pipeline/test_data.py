"""The pairs of a run, and when they are made again."""

import json
import shutil

import pytest

from circuits.errors import CircuitsError
from circuits.models.checkpoints import resolve
from circuits.pipeline import load_recipe
from circuits.pipeline.data import Data
from circuits.pipeline.recipe import parse
from circuits.pipeline.store import Store
from circuits.runs.records import ExampleFile


def rows(last):
    return [
        {"clean": [5, first, last], "corrupted": [5, first, 9], "correct_idx": 10}
        for first in (6, 7, 8)
    ]


@pytest.fixture
def recipe(tmp_path):
    """Three rows of a file, and a copy of the embedded model."""
    shutil.copytree(resolve("newsroom-gpt2")[0], tmp_path / "model")
    data = tmp_path / "rows.json"
    data.write_text(json.dumps(rows(20)))
    values = {
        "name": "small",
        "model": str(tmp_path / "model"),
        "task": {"name": "table", "options": {"path": str(data)}},
        "checkpoints": "elsewhere",
        "evaluation": {"other_examples": 0},
    }
    return parse(values, "test")


def make(recipe, tmp_path, monkeypatch):
    """The key of the stage, and the pairs, which are three whatever the split."""
    monkeypatch.setattr(Data, "pairs_of", lambda self, *_, **__: self.task().pairs(self.tokenizer))
    with Store.open(tmp_path / "run", recipe) as store:
        data = Data(recipe, store)
        data.make_pairs()
        return store.keys["pairs"], data.pairs("score").fingerprint


def test_an_edited_data_file_makes_the_pairs_anew(recipe, tmp_path, monkeypatch):
    before = make(recipe, tmp_path, monkeypatch)
    assert make(recipe, tmp_path, monkeypatch) == before
    (tmp_path / "rows.json").write_text(json.dumps(rows(30)))
    key, pairs = make(recipe, tmp_path, monkeypatch)
    assert key != before[0] and pairs != before[1]


def test_another_base_model_in_the_folder_is_another_key(recipe, tmp_path, monkeypatch):
    before, _ = make(recipe, tmp_path, monkeypatch)
    weights = tmp_path / "model" / "model.safetensors"
    weights.touch()
    assert make(recipe, tmp_path, monkeypatch)[0] == before, "the same bytes at another time"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert make(recipe, tmp_path, monkeypatch)[0] != before


def test_examples_that_would_be_missing_later_are_missed_at_once(tmp_path):
    rows = [
        {"article": f"Town {i} is big. It rained.", "highlights": f"Big {i}.", "split": split}
        for i, split in enumerate(["train"] * 20 + ["validation"] * 20 + ["test"] * 10)
    ]
    (tmp_path / "articles.json").write_text(json.dumps(rows))
    overrides = ["task.name=summarization", f"task.options={{path: {tmp_path / 'articles.json'}}}"]
    overrides += [
        "pairs.score=8",
        "pairs.evaluate=8",
        "lora=null",
        "evaluation.quality.n_examples=11",
    ]
    with Store.open(tmp_path / "run", load_recipe("quickstart", overrides)) as store:
        data = Data(store.recipe, store)
        with pytest.raises(CircuitsError, match=r"test.*: 11 rows are asked for, and there are 10"):
            data.make_pairs()


def test_a_run_keeps_a_list_of_the_rows_that_it_left_out(tmp_path):
    """The example that the report lays open is of the first pair, though a row before was bad."""
    rows = [
        {"article": f"Town {i} is big. It rained.", "highlights": f"Big {i}.", "split": split}
        for i, split in enumerate(["train"] * 4 + ["validation"] * 9 + ["test"] * 10)
    ]
    for place in (5, 15, 16, 17, 18, 19):
        rows[place]["article"] = " "
    for place in (20, 21):
        rows[place]["highlights"] = "Xyzzy."
    (tmp_path / "articles.json").write_text(json.dumps(rows))
    options = f"{{path: {tmp_path / 'articles.json'}, skip: true, corruption: filler}}"
    overrides = ["task.name=summarization", f"task.options={options}"]
    overrides += [
        "pairs.score=8",
        "pairs.evaluate=3",
        "lora=null",
        "evaluation.quality.n_examples=4",
    ]
    overrides += ["evaluation.corruptions=[shuffle]", "evaluation.perturbations=[]"]
    overrides += ["evaluation.other_examples=2"]
    with Store.open(tmp_path / "run", load_recipe("quickstart", overrides)) as store:
        data = Data(store.recipe, store)
        data.make_pairs()
        first = data.pairs("evaluate")[0]
        example = ExampleFile.load(store.path("pairs", "example.json"))
        listed = json.loads(store.path("skipped.json").read_text())
    assert example.title == first.source
    assert example.clean_prompt.lstrip().startswith(example.sentences[0].text)
    assert [row["source"] for row in listed["validation"]] == ["articles.json, row 6"]
    left_out = {row["source"] for row in listed["test"]}
    assert len(left_out) == len(listed["test"]) > 4
    assert left_out <= {f"articles.json, row {number}" for number in range(16, 23)}
    with pytest.raises(CircuitsError, match=r"can be used \(\d rows left out: "):
        data.pairs_of("test", 4)
