"""Whatever was written here says what it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import get_args

import pytest
import torch
from cli.inside import circuits as run

from circuits.errors import CircuitsError
from circuits.explorer.page import write_page
from circuits.graph import Circuit, EdgeScores, Layout, NodeCircuit, NodeScores, select
from circuits.graph.interchange import write_graph
from circuits.graph.network import write_network
from circuits.inspection import inspect
from circuits.inspection.kinds import KINDS
from circuits.intervention import MeanActivations
from circuits.intervention.constant_file import save_constants
from circuits.options.choices import NetworkForm
from circuits.runtime.files import write_json
from circuits.runtime.result_file import ResultFile
from circuits.runtime.resume import PartialResults, Pieces
from circuits.tuning.training_log import TrainingLog
from circuits.tuning.training_tables import write_tables

LAYOUT = Layout(2, 3, 3)


def subclasses(kind):
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def test_every_kind_of_result_file_is_known():
    ours = {one for one in subclasses(ResultFile) if one.__module__.startswith("circuits.")}
    assert {one.KIND for one in ours} == set(KINDS)
    assert all(KINDS[one.KIND].file is one for one in ours)


def test_a_run_and_all_in_it(whole_run):
    found = inspect(whole_run)
    assert found.what == "a run" and found.problem is None
    assert found.size > 1000 and found.written.tzinfo is not None
    parts = {str(part.path.relative_to(whole_run)): part for part in found.parts}
    assert parts["evaluation.json"].what == "an evaluation of circuits"
    assert parts["evaluation.json"].schema_version == 2
    assert parts["scores"].what == "4 files: scores of every edge"
    for name in ("comparison.json", "cross_evaluation.json", "lora.json", "patching.json"):
        assert parts[name].problem is None and parts[name].facts, name
    lines = found.lines()
    assert lines[0] == f"{whole_run}: a run" and "  scores/: 4 files: scores of every edge" in lines


def test_scores_by_either_of_their_files(whole_run):
    scores = sorted((whole_run / "scores").glob("*.safetensors"))[0]
    by_tensors, by_record = inspect(scores), inspect(scores.with_suffix(".json"))
    assert by_tensors.what == by_record.what == "scores of every edge"
    assert by_tensors.kind == "edge-scores" and by_tensors.facts == by_record.facts
    assert "edges" in by_tensors.facts and by_tensors.path == scores


def test_circuits_and_scores_of_nodes(tmp_path):
    Circuit.of(LAYOUT, ["input->m0", "m0->logits"]).save(tmp_path / "c.json")
    NodeCircuit.of(LAYOUT, ["input", "m0"]).save(tmp_path / "n.json")
    values = torch.ones(len(LAYOUT.sources))
    NodeScores(values, LAYOUT, (1,) * len(values), "planted").save(tmp_path)
    found = {part.path.name: part for part in inspect(tmp_path).parts}
    assert found["c.json"].what == "a circuit of edges"
    assert found["c.json"].facts["edges"].startswith("2 of ")
    assert found["n.json"].what == "a circuit of nodes or neurons"
    assert found["node_scores.safetensors"].what == "scores of nodes or neurons"


def test_another_version_and_a_broken_file_are_told(tmp_path):
    circuit = tmp_path / "c.json"
    Circuit.of(LAYOUT, ["input->m0"]).save(circuit)
    content = json.loads(circuit.read_text())
    write_json(circuit, {**content, "schema_version": 9})
    found = inspect(circuit)
    assert (found.what, found.schema_version) == ("a circuit of edges", 9)
    assert found.problem.startswith("schema version 9; this version of circuits reads 1")
    done = run("inspect", circuit)
    assert done.returncode == 1 and "problem" in done.stdout
    write_json(circuit, {**content, "edges": [{"edge": "m1->m0"}]})
    assert "m1->m0" in inspect(circuit).problem


def test_pairs_and_what_was_left_out(tmp_path, random_pairs):
    pairs = replace(random_pairs(), task="ioi", split="test")
    pairs.save(tmp_path / "p.jsonl")
    found = inspect(tmp_path / "p.jsonl")
    assert (found.what, found.task) == ("prompt pairs", "ioi, test, 3 pairs")
    assert found.facts["metric"] == "logit-difference"
    write_json(tmp_path / "skipped.json", [{"source": "a", "reason": "b"}])
    assert inspect(tmp_path / "skipped.json").facts == {"rows": "1 left out"}


def test_partial_work(tmp_path):
    with pytest.raises(KeyboardInterrupt), PartialResults(tmp_path / "s.partial") as resume:
        resume.restore(
            4,
            {"model": {"name": "gpt2"}, "data": {"task": "ioi", "split": "all"}, "metric": "m"},
            {"values": torch.zeros(4)},
        )
        resume.keep(torch.tensor([0, 2]))
        raise KeyboardInterrupt
    found = inspect(tmp_path / "s.partial")
    assert found.facts == {"done": "2 of 4 examples", "metric": "m"}
    assert (found.model, found.task) == ("gpt2", "ioi, all")
    with pytest.raises(KeyboardInterrupt), Pieces(tmp_path / "e.partial") as pieces:
        pieces.value({"a": 1}, lambda: 2)
        raise KeyboardInterrupt
    assert inspect(tmp_path / "e.partial").facts == {"pieces": "1 so far"}
    (tmp_path / "t.partial").write_bytes(b"torn")
    assert "cannot be read" in inspect(tmp_path / "t.partial").problem


def test_adapters_checkpoints_and_trainings(tmp_path, model_folder, whole_run):
    config = {"base_model_name_or_path": "gpt2", "r": 8, "layers_to_transform": [1, 2]}
    write_json(tmp_path / "lora" / "adapter_config.json", config)
    found = inspect(tmp_path / "lora")
    assert (found.what, found.model) == ("the configuration of a LoRA, without weights", "gpt2")
    assert found.facts == {"rank": "8", "layers": "1, 2"}
    found = inspect(model_folder("llama"))
    assert found.what == "a model as Hugging Face keeps it"
    assert found.facts == {"architecture": "LlamaForCausalLM"}
    log = next((whole_run / "checkpoints").rglob("training_log.json"))
    training = tmp_path / "training"
    (training / "step-20").mkdir(parents=True)
    (training / "step-3").mkdir()
    shutil.copy(log, training)
    write_json(training / "run.json", {})
    found = inspect(training)
    assert found.what == "a fine-tuning" and found.facts["checkpoints"] == "step-3, step-20"
    assert found.facts["state"] in ("finished", "not finished; the same command goes on")


def test_recipes_and_pages(tmp_path):
    from circuits.pipeline import load_recipe

    recipe = tmp_path / "quick.yaml"
    recipe.write_text(load_recipe("quickstart").to_yaml())
    found = inspect(recipe)
    assert (found.what, found.model, found.task) == ("a recipe", "newsroom-gpt2", "newsroom")
    recipe.write_text(recipe.read_text() + "nothing: 1\n")
    assert "nothing" in inspect(recipe).problem
    Circuit.of(LAYOUT, ["input->m0"]).show(tmp_path / "c.html")
    assert inspect(tmp_path / "c.html").facts == {"title": "A circuit of 1 edge"}


def test_files_for_other_programs(tmp_path):
    rows, columns = LAYOUT.shape
    numbers = 1 + torch.arange(rows * columns, dtype=torch.float32).view(rows, columns)
    scores = EdgeScores(numbers * LAYOUT.mask, LAYOUT, "eap")
    circuit = select(scores, size=9)
    for form in get_args(NetworkForm):
        file = write_network(circuit.to_networkx(), tmp_path / f"net.{form}", form)
        assert inspect(file).what == "a circuit or scores as a graph, for graph tools", form
    for ending in ("json", "pt"):
        file = write_graph(tmp_path / f"graph.{ending}", d_model=8, scores=scores)
        found = inspect(file)
        assert found.what == "a graph file as EAP-IG and MIB read it"
        assert found.facts == {"edges": str(scores.layout.n_edges)}
    circuit.show(tmp_path / "c.svg")
    assert inspect(tmp_path / "c.svg").what == "a circuit as a drawing"
    write_json(tmp_path / "results.json", {"method_name": "EAP", "results": []})
    assert inspect(tmp_path / "results.json").what.startswith("an evaluation as MIB")
    write_tables(TrainingLog(), tmp_path, ["csv"])
    assert inspect(tmp_path / "training_log.csv").what == "the log of a fine-tuning as a table"
    page = write_page({"checkpoints": []}, tmp_path / "e.html")
    assert inspect(page).what == "an explorer of circuits; open it in a browser"
    constants = MeanActivations("mean", (torch.zeros(1, 4),), (), (), ())
    found = inspect(save_constants(constants, tmp_path / "constants.safetensors"))
    assert found.what.startswith("constants") and found.facts == {"ablation": "mean"}


def test_what_was_not_written_here_is_refused(tmp_path):
    write_json(tmp_path / "other.json", {"kind": "something"})
    for name in ("notes.txt", "table.csv", "drawing.svg", "net.dot", "weights.pt", "x.safetensors"):
        (tmp_path / name).write_text("mine")
    for path in (*tmp_path.iterdir(), tmp_path):
        with pytest.raises(CircuitsError, match="nothing that circuits writes"):
            inspect(path)
    with pytest.raises(CircuitsError, match="no such file or folder"):
        inspect(tmp_path / "absent")


def test_the_verb_prints_lines_or_json(tmp_path):
    path = tmp_path / "c.json"
    Circuit.of(LAYOUT, ["input->m0"]).save(path)
    done = run("inspect", path)
    assert done.returncode == 0
    first, *lines = done.stdout.splitlines()
    assert first == f"{path}: a circuit of edges"
    assert "  kind        edge-circuit, schema version 1" in lines
    assert json.loads(run("inspect", path, "--json").stdout) == inspect(path).to_json()
