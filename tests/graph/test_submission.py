"""Submissions to MIB's leaderboard: what is written is read again, and its rules are kept."""

import json

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores, Layout, Provenance
from circuits.graph.provenance import DataRecord, ModelRecord, TaskRecord
from circuits.graph.submission import (
    SHARES,
    Cell,
    CellFiles,
    circuits_of_shares,
    submission_faults,
    write_cell,
)
from circuits.graph.ungrouped import ungrouped, ungrouped_circuit, ungrouped_scores

LAYOUT = Layout(4, 4, 2)


def scores(seed=0):
    draw = torch.randn(LAYOUT.shape, generator=torch.Generator().manual_seed(seed))
    return EdgeScores(draw * LAYOUT.mask, LAYOUT, "eap-ig")


def made(task, model, *options):
    return Provenance(
        model=ModelRecord(name=model, architecture="GPT2", dtype="float32", fingerprint="f"),
        data=DataRecord(task=task, split="train", n=1, fingerprint="p"),
        task=TaskRecord(name=task, options=options),
    )


@pytest.mark.parametrize("suffix", [".json", ".pt"])
def test_scores_are_read_as_written(tmp_path, suffix):
    (path,) = write_cell(tmp_path / "ioi_gpt2", scores(), d_model=8, suffix=suffix)
    assert path == tmp_path / "ioi_gpt2" / f"importances{suffix}"
    found = CellFiles.read(tmp_path / "ioi_gpt2").scores()
    torch.testing.assert_close(found.matrix, ungrouped_scores(scores()).matrix)


@pytest.mark.parametrize("strategy", ["widest-path", "top-n"])
def test_nine_circuits_are_each_as_large_as_may_be(tmp_path, strategy):
    whole = ungrouped(LAYOUT).n_edges
    nine = circuits_of_shares(scores(), strategy)
    for share, circuit in zip(SHARES, nine, strict=True):
        assert len(ungrouped_circuit(circuit)) <= share * whole
    if strategy == "widest-path":  # pruning takes next to nothing: one more edge would not fit
        assert len(ungrouped_circuit(nine[-1])) > 0.5 * whole - 5
    files = write_cell(tmp_path / "ioi_gpt2", nine[::-1], d_model=8)
    assert [one.name for one in files[:4]] == [
        *("circuit_0.1.json", "circuit_0.2.json", "circuit_0.5.json", "circuit_1.json")
    ]
    back = CellFiles.read(tmp_path / "ioi_gpt2")
    assert back.scores() is None
    assert {circuit.edges for circuit in back.circuits()} == {
        ungrouped_circuit(circuit).edges for circuit in nine
    }


def test_a_folder_is_written_anew(tmp_path):
    write_cell(tmp_path / "ioi_gpt2", circuits_of_shares(scores()), d_model=8)
    write_cell(tmp_path / "ioi_gpt2", scores(), d_model=8)
    assert [one.name for one in (tmp_path / "ioi_gpt2").iterdir()] == ["importances.json"]


def test_circuits_that_are_too_large_or_too_few_are_refused(tmp_path):
    nine = circuits_of_shares(scores())
    large = [*nine[1:], Circuit.full(LAYOUT)]
    whole = f"% of the {ungrouped(LAYOUT).n_edges} edges is left for its place"
    with pytest.raises(CircuitsError, match=whole):
        write_cell(tmp_path / "ioi_gpt2", large, d_model=8)
    with pytest.raises(CircuitsError, match="8 circuits; MIB takes 9"):
        write_cell(tmp_path / "ioi_gpt2", nine[1:], d_model=8)
    paths = write_cell(tmp_path / "ioi_gpt2", nine, d_model=8)
    paths[0].unlink()
    with pytest.raises(
        CircuitsError, match=r"8 \.json and \.pt files; MIB takes one with scores, or 9"
    ):
        CellFiles.read(tmp_path / "ioi_gpt2")
    record = json.loads(paths[1].read_text())
    for edge in record["edges"].values():
        edge["in_graph"] = True
    paths[0].write_text(json.dumps(record))
    with pytest.raises(CircuitsError, match=whole):
        CellFiles.read(tmp_path / "ioi_gpt2")
    for path in paths[1:]:
        path.unlink()
    with pytest.raises(CircuitsError, match="its edges have no scores"):
        CellFiles.read(tmp_path / "ioi_gpt2")


def test_a_submission_has_two_tasks_and_two_models(tmp_path):
    write_cell(tmp_path / "ioi_gpt2", scores(), d_model=8)
    faults = submission_faults(tmp_path)
    assert [fault.partition(": ")[2][:30] for fault in faults] == [
        *("1 task that can be read; MIB a", "1 model that can be read; MIB "),
    ]
    write_cell(tmp_path / "arc_easy_llama3", scores(1), d_model=8, suffix=".pt")
    assert submission_faults(tmp_path) == []
    (tmp_path / "mcqa_gpt2").mkdir()
    (fault,) = submission_faults(tmp_path)
    assert "'mcqa_gpt2' is no task and model of MIB; they are: ioi_gpt2, ioi_qwen2.5" in fault
    (tmp_path / "mcqa_gpt2").rmdir()
    (tmp_path / "mcqa_gemma2").mkdir()
    (fault,) = submission_faults(tmp_path)
    assert fault.endswith(
        "mcqa_gemma2: 0 .json and .pt files; MIB takes one with scores, or 9 circuits"
    )


@pytest.mark.parametrize(
    ("record", "folder"),
    [
        (made("mib-ioi", "openai-community/gpt2"), "ioi_gpt2"),
        (made("mib-mcqa", "Qwen/Qwen2.5-0.5B"), "mcqa_qwen2.5"),
        (made("mib-arithmetic", "meta-llama/Llama-3.1-8B"), "arithmetic-addition_llama3"),
        (
            made("mib-arithmetic", "meta-llama/Llama-3.1-8B", "draw=true", "operator=-"),
            "arithmetic-subtraction_llama3",
        ),
        (made("mib-arc", "google/gemma-2-2b"), "arc-easy_gemma2"),
    ],
)
def test_what_scores_say_names_the_folder(record, folder):
    assert Cell.of(record).folder == folder
    assert Cell.named(folder) == Cell.of(record)


def test_what_is_none_of_mibs_is_named(tmp_path):
    for record in (made("ioi", "gpt2"), made("mib-ioi", "smollm2-135m"), Provenance()):
        with pytest.raises(CircuitsError, match="name the folder with --cell, as in ioi_gpt2"):
            Cell.of(record)
    with pytest.raises(CircuitsError, match="'mcqa_gpt2' is no task and model of MIB"):
        Cell.of(made("mib-mcqa", "gpt2"))
