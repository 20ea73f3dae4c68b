"""The command line, from its words to what it prints and leaves."""

import json
import re
import subprocess
import sys
from itertools import combinations

import pytest
import torch
from cli.inside import circuits
from safetensors.torch import load_file

from circuits.comparison import Evolution
from circuits.graph import EdgeScores


@pytest.fixture(scope="module")
def table(tmp_path_factory, tokenizer):
    """Ten rows; the answers are token ids, as EAP-IG's files have them."""
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    words = ["Mary", "John", "Paris", "Rome", "book"]
    ids = {word: tokenizer(f" {word}")["input_ids"] for word in words}
    assert all(len(tokens) == 1 for tokens in ids.values())
    rows = ["clean,corrupted,correct_idx,incorrect_idx"]
    rows += [
        f"and {word} gave a book to,and {other} gave a book to,{ids[word][0]},{ids[other][0]}"
        for word, other in combinations(words, 2)
    ]
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def discovered(table, model_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("discovered")
    done = circuits(
        *("discover", "--model", model_folder("llama"), "--task", "table", "--data", table),
        *("--steps", 5, "--quadrature", "left", "--size", 40, "--per-example", "--out", out),
        *("--device", "cpu", "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    return out, done


def test_discover_writes_the_two_files(discovered, model_folder, hooked):
    out, done = discovered
    tensors = load_file(out / "scores.safetensors")
    layout = hooked("llama").layout
    assert tensors["scores"].shape == layout.shape and tensors["scores"].dtype == torch.float32
    assert tensors["per_example"].shape == (10, *layout.shape)
    assert tensors["scores"].abs().max() > 1e-3
    record = json.loads((out / "scores.json").read_text())
    assert (record["kind"], record["schema_version"]) == ("edge-scores", 1)
    made = record["provenance"]
    assert record["method"] == "eap-ig" and made["metric"] == "logit-difference"
    assert made["settings"] == {"steps": 5, "quadrature": "left"}
    assert record["sources"] == list(layout.sources) and record["readers"] == list(layout.readers)
    assert "a1.kv1<k>" in record["readers"]
    assert made["data"]["n"] == 10 and len(made["data"]["fingerprint"]) == 64
    assert made["model"]["name"] == str(model_folder("llama")) and made["seed"] == 0
    assert set(made["versions"]) == {"circuits", "torch", "transformers", "transformer_lens"}
    for file in ("scores.safetensors", "scores.json", "circuit.json"):
        assert f"wrote {out / file}" in done.stdout


def test_it_is_told_at_the_end_how_long_the_steps_took(discovered):
    last = discovered[1].stdout.splitlines()[-1]
    assert re.fullmatch(
        r"discover took \d+\.\d s \(loading \S+ \d+\.\d s, trying the task \d+\.\d s, "
        r"scoring edges \d+\.\d s, resampling \d+\.\d s\)",
        last,
    )


def test_compare_names_checkpoints_and_sees_no_change_in_itself(discovered, tmp_path):
    scores = EdgeScores.load(discovered[0])
    files = [scores.save(tmp_path / name, name) for name in ("base", "tuned")]
    done = circuits("compare", *files, "--out", tmp_path, "--n-resamples", 200)
    assert done.returncode == 0, done.stderr
    found = Evolution.load(tmp_path / "comparison.json")
    assert found.names == ("base", "tuned") and found.overall.identical
    assert "base and tuned: no change." in done.stdout


def test_lora_writes_a_config_that_peft_reads(discovered, model_folder, tmp_path):
    from peft import LoraConfig

    done = circuits(
        *("lora", "--model", model_folder("llama"), "--circuit", discovered[0] / "circuit.json"),
        *("--layers", 1, "--rank", 2, "--out", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    config = LoraConfig.from_pretrained(tmp_path)
    assert len(config.layers_to_transform) == 1 and config.r == 2
    assert done.stdout.count("<- chosen") == 1 and not done.stderr
    assert config.base_model_name_or_path == str(model_folder("llama"))


def test_finetune_saves_checkpoints(tmp_path):
    done = circuits(
        *("finetune", "--model", "newsroom-gpt2", "--task", "newsroom", "--steps", 4),
        *("--examples", 32, "--validation", 8, "--checkpoint-steps", 2, "--learning-rate", 0.003),
        *("--out", tmp_path / "run", "--device", "cpu", "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/step-2/model.safetensors").exists()
    assert (tmp_path / "run/step-4/model.safetensors").exists()


def test_tasks_are_listed_with_their_options():
    assert "summarization" in circuits("tasks").stdout
    assert "corruption" in circuits("tasks", "newsroom").stdout
    told = circuits("tasks", "table").stdout
    assert "  clean                'clean'\n      the columns of the prompts, or templates" in told


@pytest.mark.parametrize(
    "verb", ["run", "discover", "evaluate", "compare", "finetune", "lora", "report", "tasks"]
)
def test_help_shows_an_example(verb):
    done = circuits(verb, "--help")
    assert done.returncode == 0 and f"circuits {verb}" in done.stdout
    assert "Example: circuits" in done.stdout


def test_help_loads_no_torch():
    code = "import sys, circuits, tasks, circuits.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


UNEQUAL = "clean,corrupted,correct_idx,incorrect_idx\nthe book,the book is,5,6\n"
MALFORMED = '{"article": "A. B.", "highlights": "A."}\n{"article": \n'
LONG = json.dumps({"article": "the book is at home. " * 40, "highlights": "the book"})


@pytest.mark.parametrize(
    ("file", "content", "arguments", "message"),
    [
        ("pairs.csv", UNEQUAL, ["--task", "table"], "pairs.csv, row 1: the clean prompt has"),
        ("a.jsonl", MALFORMED, ["--task", "summarization"], "a.jsonl, line 2"),
        ("a.jsonl", LONG, ["--task", "summarization"], "a.jsonl, line 1: "),
        ("pairs.csv", "", ["--task", "table"], "pairs.csv"),
        ("pairs.csv", UNEQUAL, ["--task", "poetry"], "unknown task 'poetry'"),
        (None, None, ["--task", "table", "--data", "nothing.csv"], "nothing.csv: no such file"),
        ("pairs.csv", UNEQUAL, ["--task", "table", "--method", "luck"], "unknown method 'luck'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    file, content, arguments, message, tmp_path, model_folder
):
    if file:
        (tmp_path / file).write_text(content)
        arguments = [*arguments, "--data", tmp_path / file]
    out = tmp_path / "out"
    done = circuits(
        *("discover", "--model", model_folder("llama"), "--device", "cpu", "--out", out),
        *arguments,
        cwd=tmp_path,
    )
    refused(done, message)
    assert not out.exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "./nowhere: no such model folder"),
        ("gpt17", "gpt17: not a local folder, and the hub did not give it"),
        ("SmolM2-135m", "SmolM2-135m: names no model; did you mean smollm2-135m?"),
        ("newsroom-gpt2@main", "newsroom-gpt2@main"),
    ],
)
def test_missing_models_are_named(model, message, tmp_path):
    done = circuits(
        *("discover", "--model", model, "--task", "newsroom", "--out", tmp_path / "out"),
        *("--device", "cpu"),
        cwd=tmp_path,
    )
    refused(done, message)
    assert not (tmp_path / "out").exists()


def test_an_incomplete_model_folder_is_named(tmp_path):
    (tmp_path / "model").mkdir()
    done = circuits("discover", "--model", tmp_path / "model", "--task", "newsroom", cwd=tmp_path)
    refused(done, "the folder holds no config.json")


def test_a_missing_run_folder_is_named(tmp_path):
    refused(circuits("report", tmp_path / "nothing"), "nothing")


def refused(done, message):
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("circuits: ") and message in lines[0], lines


def test_report_leaves_a_folder_alone_that_is_no_run(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    refused(circuits("report", tmp_path), "no run folder (it holds no recipe.yaml)")
    assert (tmp_path / "report.html").read_text() == "mine"
