"""The verbs on a GGUF file."""

import json

import pytest
from cli.inside import circuits
from cli.test_cli import refused
from conftest import make_model
from gguf_writer import write
from models.test_gguf_tokenizer import byte_level

from circuits.graph import EdgeScores
from circuits.models.gguf import weights


@pytest.fixture
def file(tmp_path):
    (tmp_path / "model").mkdir()
    return write(
        tmp_path / "model/m.gguf",
        make_model("llama"),
        tokenizer=byte_level("smollm"),
        quantisation="Q8_0",
    )


@pytest.fixture
def table(tmp_path):
    rows = [
        {"clean": f"in {n} it had", "corrupted": f"in {n + 1} it had", "correct": " a"}
        for n in (12, 34, 56, 78)
    ]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    return tmp_path / "t.json"


def test_a_plan_reads_the_header_alone(file, table, monkeypatch):
    monkeypatch.setattr(weights, "load_weights", None)
    given = ("plan", "--model", file.parent, "--device", "cpu", "--memory", "64GB")
    done = circuits(*given, "--length", 32)
    assert done.returncode == 0, done.stderr
    assert ": 0.0 M parameters, 3 layers, 4 heads, 2 KV heads, 190 edges" in done.stdout
    done = circuits(*given, "--task", "table", "--data", table)
    assert done.returncode == 0, done.stderr
    assert "4 pairs of " in done.stdout


def test_scores_say_what_file_they_are_of(file, table, tmp_path):
    """The file, its folder, and what `save_pretrained` writes of it are one model."""
    from circuits.models import load_model

    model, tokenizer = load_model(file, device="cpu")
    model.save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    given = (
        "--task",
        "table",
        "--data",
        table,
        "--method",
        "eap",
        "--metric",
        "answer-log-probability",
    )
    found = {}
    for name, place in (("file", file), ("folder", file.parent), ("plain", tmp_path / "plain")):
        out = tmp_path / name
        done = circuits("discover", "--model", place, *given, "--out", out, "--device", "cpu")
        assert done.returncode == 0, done.stderr
        found[name] = EdgeScores.load(out).provenance.model
    assert found["file"].gguf["quantisation"] == "Q8_0"
    assert found["file"].gguf == found["folder"].gguf
    prints = {one.fingerprint for one in found.values()}
    assert len(prints) == 1 and found["plain"].gguf is None
    scores = [(tmp_path / name / "scores.safetensors").read_bytes() for name in ("file", "folder")]
    assert scores[0] == scores[1]
    done = circuits(
        *("evaluate", "--scores", tmp_path / "file", "--data", table, "--task", "table"),
        *("--split", "all", "--out", tmp_path / "evaluation", "--device", "cpu", "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    assert "another model" not in done.stderr


def test_it_is_trained_and_compared(file, table, tmp_path):
    text = {"article": "It had 12. They gone.", "summary": "It had 12."}
    articles = [{**text, "split": split} for split in ("train", "validation") for _ in range(4)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, articles)))
    done = circuits(
        *("finetune", "--model", file, "--task", "summarization", "--data", tmp_path / "a.jsonl"),
        *("--task-option", "corruption=filler", "--steps", 2, "--examples", 4, "--validation", 2),
        *("--batch-size", 2, "--out", tmp_path / "tuned", "--device", "cpu", "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    done = circuits(
        *("diff", "--model", tmp_path / "tuned/step-2", "--base", file, "--task", "table"),
        *("--data", table, "--out", tmp_path / "inside", "--device", "cpu", "--quiet"),
    )
    assert done.returncode == 0, done.stderr


def test_bad_files_are_one_line(file, table, tmp_path):
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    given = ("--task", "table", "--data", table, "--device", "cpu", "--out", tmp_path / "out")
    for verb in ("discover", "patch"):
        refused(circuits(verb, "--model", file, *given), f"{file}: truncated: tensor ")
    refused(circuits("plan", "--model", file, "--length", 9), f"{file}: truncated: tensor ")
    file.write_bytes(whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba", 1))
    refused(
        circuits("discover", "--model", file, *given), "architecture 'mamba' is not read; known"
    )
