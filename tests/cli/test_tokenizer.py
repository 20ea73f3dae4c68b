"""--tokenizer in every verb that reads text, and the reason where there is none."""

import json
import shutil

import pytest
from cli.inside import circuits
from cli.test_cli import refused
from models.test_tokenizers import broken

from circuits.graph import EdgeScores


@pytest.fixture
def bare(model_folder, tmp_path):
    """A model whose tokenizer is damaged."""
    return broken(shutil.copytree(model_folder("llama"), tmp_path / "model"))


@pytest.fixture
def table(tmp_path):
    row = {"clean": "Mary gave John", "corrupted": "John gave John"}
    rows = [{**row, "correct": " a", "incorrect": " the", "length": 3} for _ in range(3)]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    return tmp_path / "t.json"


VERBS = {
    "discover": [],
    "patch": [],
    "search": ["--tau", "1"],
    "plan": [],
    "diff": ["--base", "MODEL"],
    "evaluate": ["--scores", "SCORES"],
}


@pytest.fixture
def arguments(bare, table, tmp_path, model_folder):
    """verb -> its arguments; scores are made once they are asked for."""

    def make(verb):
        found = ["--model", bare, "--task", "table", "--data", table]
        if verb == "finetune":
            found = ["--model", bare, "--task", "newsroom"]
        for word in VERBS.get(verb, []):
            if word == "SCORES":
                word = tmp_path / "scores"
                done = circuits(
                    *("discover", "--model", model_folder("llama"), "--task", "table"),
                    *("--data", table, "--method", "eap", "--out", word, "--device", "cpu"),
                )
                assert done.returncode == 0, done.stderr
            found.append(bare if word == "MODEL" else word)
        return [verb, *found, "--device", "cpu"]

    return make


@pytest.mark.parametrize("verb", [*VERBS, "finetune"])
def test_every_verb_says_why_and_takes_another(verb, arguments, model_folder, tmp_path):
    given = arguments(verb)
    if verb != "plan":
        given += ["--out", tmp_path / "out"]
    refused(circuits(*given), "its tokenizer cannot be read (JSONDecodeError: ")
    refused(circuits(*given, "--tokenizer", "/no/folder"), "/no/folder: no such model folder")


def test_another_tokenizer_serves_from_scoring_to_evaluation(
    bare, table, model_folder, tmp_path, arguments
):
    scored = tmp_path / "scored"
    given = ["--method", "eap", "--out", scored, "--tokenizer", model_folder("gpt2")]
    done = circuits(*arguments("discover"), *given)
    assert done.returncode == 0, done.stderr
    recorded = EdgeScores.load(scored).provenance.model
    assert recorded.tokenizer == str(model_folder("gpt2"))
    done = circuits(  # as recorded
        *("evaluate", "--scores", scored, "--split", "all", "--out", tmp_path / "out"),
        *("--device", "cpu", "--data", table, "--task", "table", "--quiet"),
    )
    assert done.returncode == 0, done.stderr


def test_a_run_says_why_and_takes_another(bare, model_folder, tmp_path):
    given = ["run", "quickstart", "--set", f"model={bare}", "--out", tmp_path / "run", "--quiet"]
    why = "its tokenizer cannot be read (JSONDecodeError"
    refused(circuits(*given), why)
    assert not (tmp_path / "run").exists()  # or the next would be another recipe's folder
    refused(circuits(*given, "--tokenizer", "/no/folder"), "/no/folder: no such model folder")
