"""The scripts that redo a study run to the end at miniature size, and go on with what is there."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tasks
from circuits.errors import CircuitsError
from circuits.runs import open_run

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    """(name, arguments) -> the script's names, after it ran as a program if there are arguments."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(
            str(SCRIPTS / f"{name}.py"), run_name="__main__" if arguments else "script"
        )

    return run


def files(folder):
    """Every file below the folder with its bytes and the moment it was written."""
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@torch.no_grad()
def probability(folder, prompt, name):
    """Of a name's only token after a prompt, by the plain model."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    (token,) = tokenizer(f" {name}")["input_ids"]
    logits = model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1]
    return float(logits.softmax(-1)[token]), int((logits > logits[token]).sum()) + 1


@torch.no_grad()
def log_probability(folder, prompt, answer):
    """Of an answer of one token after a prompt in ids, by the plain model."""
    logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([prompt])).logits[0, -1]
    return float(logits.log_softmax(-1)[answer[0][0]])


@pytest.mark.exhaustive
def test_comparison(script, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = (
        "--out",
        out,
        "--steps",
        3,
        "--tuning-steps",
        4,
        "--pairs",
        2,
        "--threads",
        1,
        "--device",
        "cpu",
    )
    script("reproduce_comparison", *arguments)
    said = capsys.readouterr().out
    tables = json.loads((out / "tables.json").read_text())
    assert set(tables["questions"]) == {
        "comparison less-first",
        "comparison more-first",
        "name-copying",
    }
    pages = {path.stem for path in out.glob("*.html")}
    for name, kinds in tables["questions"].items():
        assert {f"{name.replace(' ', '-')}-{kind}" for kind in kinds} <= pages
        for kind, found in kinds.items():
            assert found["data"]["n"] == (1 if kind == "original" else 2)
            assert len(found["sweeps"]) == 8
            for sweep in found["sweeps"].values():
                layers, across = sweep["axes"]
                assert (
                    torch.tensor(sweep["value"]).shape
                    == (len(layers), len(across))
                    == (3, len(across))
                )
        assert len(kinds["original"]["top"]["clean"]) == 10
    assert len(pages) == 6
    assert said.startswith("# ") and (out / "tables.md").read_text() in said

    # The numbers are the model's.
    names = {row["name"]: row for row in tables["questions"]["name-copying"]["original"]["names"]}
    assert list(names) == ["Jones", "Smith", "Michelle", "Laura"]
    for side, introduced in (("clean", "Jones"), ("corrupted", "Smith")):
        prompt = f"Michelle {introduced} was a top-notch student. Michelle"
        for name, row in names.items():
            expected, rank = probability(Path(tables["model"]["name"]), prompt, name)
            assert row[side]["probability"] == pytest.approx(expected, rel=1e-4)
            assert row[side]["rank"] == rank
    comparison = tables["questions"]["comparison more-first"]["original"]["names"]
    assert [row["name"] for row in comparison] == ["Messi", "Ronaldo", "Lionel", "Cristiano"]

    # A second run trains and patches nothing, and says the same.
    before = files(out)
    script("reproduce_comparison", *arguments)
    again = files(out)
    kept = [path for path in before if path.parts[0] in ("models", "sweeps")]
    assert len(kept) > 48 and all(again[path] == before[path] for path in kept)
    assert not [path for path in before if again[path][0] != before[path][0]]

    # Another request does not quietly get what is there.
    with pytest.raises(CircuitsError, match="belongs to another model or other pairs"):
        script("reproduce_comparison", *arguments, "--corruption", "names")
    with pytest.raises(CircuitsError, match=r"'steps': 3.*'steps': 4"):
        script("reproduce_comparison", *arguments, "--steps", 4)


def test_what_the_small_model_never_reads(script):
    held_out = script("comparison_gpt2")["held_out"]
    for names in (("Messi", "Ronaldo"), ("Ronaldo", "Messi", "Cristiano", "Lionel")):
        assert held_out(names)
    assert held_out(("Michelle", "Jones")) and held_out(("Smith", "Lee", "Laura", "Amy"))
    assert not held_out(("Messi", "Kane")) and not held_out(("Michelle", "Lee"))


def test_pairs_of_one_template(script):
    made = script("reproduce_comparison")
    without = made["_without"]
    assert without("Then we met Amy Lee. The last word came from Amy", ("Lee", "Ross", "Amy")) == (
        "Then we met _ _ The last word came from _"
    )
    assert without("Kane has won 5 titles.", ("Kane",)) == "_ has won _ titles"


@pytest.mark.exhaustive
def test_transitive(script, tmp_path, capsys):
    out = tmp_path / "run"
    sizes = (
        "--examples",
        40,
        "--epochs",
        1,
        "--search-pairs",
        4,
        "--pairs",
        6,
        "--head-type-pairs",
        4,
    )
    arguments = ("--out", out, "--steps", 3, *sizes, "--threads", 1, "--device", "cpu")
    script("reproduce_transitive", *arguments)
    tables = json.loads((out / "tables.json").read_text())
    assert set(tables["baseline"]) == {"base", "10%", "30%", "50%"}
    assert len(tables["acdc"]) == 3 * 3 * 4
    assert {len(drawn) for drawn in tables["random_nodes"].values()} == {10}

    # The figures are the plain model's: log-probability of c, clean and with the link cut.
    folder = out / "models" / "base"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for key, corruption, side in (
        ("baseline", "exchange", "clean"),
        ("unlinked", "unlink", "corrupted"),
    ):
        pairs = tasks.load("transitive", corruption=corruption).pairs(tokenizer, 6, split="test")
        by_hand = [log_probability(folder, getattr(pair, side), pair.answer) for pair in pairs]
        mean, low, high = tables[key]["base"]["answer-log-probability"]
        assert mean == pytest.approx(sum(by_hand) / 6, rel=1e-5) and low < mean < high
    assert (out / "tables.md").read_text() in capsys.readouterr().out
    before = files(out)
    script("reproduce_transitive", *arguments)
    again = files(out)
    kept = [path for path in before if path.suffix == ".safetensors"]
    assert len(kept) >= 4 and all(again[path] == before[path] for path in kept)
    assert not [path for path in before if again[path][0] != before[path][0]]


def test_tables_of_the_summaries_are_those_of_the_run(script, whole_run, tmp_path):
    """Read from a finished run, of which one part is missing."""
    folder = shutil.copytree(whole_run, tmp_path / "run")
    (folder / "restoration.json").unlink()
    text = script("reproduce_summarization")["tables"](open_run(folder))
    found = open_run(folder)
    for title in ("## 1. Summ", "## 2. Circ", "## 3. What", "## 4. Inside", "## 5. LoRAs"):
        assert title in text
    assert "| step-300 from base | 0.0600 [0.0300, 0.0900] |" in text
    size = found.comparison.overall.middle
    assert f"{size.edge_jaccard.between:.3f} / {size.edge_jaccard.within:.3f}" in text
    assert "| standard | 0, 1, 2, 3 | 65\u202f536 |" in text
    assert "(neurons: restoration.json is not in the run folder.)" in text
    assert f"- ROUGE-L: {found.lora.differences[0].verdict}" in text
