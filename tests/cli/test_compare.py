"""`circuits compare`: what it writes, says and refuses."""

import json
from pathlib import Path

import killing
import pytest
import torch
from typer.testing import CliRunner

import circuits
from circuits.cli.app import app
from circuits.comparison import CrossEvaluation, Evolution
from circuits.errors import CircuitsError
from circuits.graph import EdgeScores, Layout, Provenance
from circuits.graph.provenance import DataRecord
from circuits.report import narrative
from tasks import load

QUICK = ("--n-resamples", 100, "--quiet", "--device", "cpu")


def compare(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Sixteen rows of one template."""
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    words = ["Mary", "John", "Paris", "Rome", "book"]
    couples = [(one, two) for one in words for two in words if one != two][:16]
    rows = [f"and {one} gave a book to,and {two} gave a book to, {one}, {two}"
            for one, two in couples]  # fmt: skip
    path.write_text("\n".join(["clean,corrupted,correct,incorrect", *rows]))
    return path


@pytest.fixture(scope="module")
def scored(table, model_folder, hooked, tmp_path_factory):
    """Score files of three models of one shape, as if they were checkpoints."""
    folder = tmp_path_factory.mktemp("scores")
    files = []
    for name, kind in (("base", "llama"), ("step-100", "mistral"), ("step-20", "qwen2")):
        model = hooked(kind)
        pairs = load("table", path=table).pairs(model.tokenizer, split="all")
        files.append(circuits.attribute(model, pairs, per_example=True).save(folder, name))
    return files


def test_files_are_ordered_by_step_and_make_a_page(scored, tmp_path):
    done = compare(*scored, "--out", tmp_path, *QUICK)
    assert done.exit_code == 0, done.output
    found = Evolution.load(tmp_path / "comparison.json")
    assert found.names == ("base", "step-20", "step-100")
    assert found.training_steps == [0, 20, 100]
    assert narrative.evolution(found) in done.stdout
    assert (tmp_path / "comparison.html").stat().st_size > 1e6
    assert not (tmp_path / "cross_evaluation.json").exists()
    assert str(tmp_path / "comparison.html") in done.stdout


@pytest.mark.exhaustive
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(scored, tmp_path):
    worker = Path(__file__).with_name("compare_worker.py")
    killing.run(worker, tmp_path, 3, *scored[:2], said=tmp_path / "said.txt")
    whole = (tmp_path / "whole" / "comparison.json").read_bytes()
    events = json.loads((tmp_path / "events.json").read_text())
    every = events.pop("whole")
    assert len(events) == 3 and every > 30
    for name, counted in events.items():
        folder = tmp_path / name
        assert (folder / "comparison.json").read_bytes() == whole
        assert not (folder / "comparison.partial").exists()
        # Of what was measured before the kill, no more than a chunk is measured again.
        before = int(name.removeprefix("killed-")) - 1
        assert every - before <= counted <= every - before + 12


def test_models_add_the_cross_evaluation(scored, table, model_folder, tmp_path):
    kinds = ("llama", "mistral", "qwen2")  # in the order of the files, not of the steps
    models = [part for kind in kinds for part in ("--model", model_folder(kind))]
    done = compare(*scored, "--out", tmp_path, *models, "--task", "table", "--data", table, *QUICK)
    assert done.exit_code == 0, done.output
    matrix = CrossEvaluation.load(tmp_path / "cross_evaluation.json")
    assert matrix.models == ("base", "step-20", "step-100")
    model = circuits.HookedModel.from_pretrained(model_folder("qwen2"), device="cpu")
    pairs = load("table", path=table).pairs(model.tokenizer, split="all")
    layout = model.layout
    circuit = circuits.select(EdgeScores.load(scored[2]), size=round(0.1 * layout.n_edges))
    found = circuits.robustness(model, circuit, {"here": pairs})["here"].circuit
    assert matrix.own("step-20").value == pytest.approx(found.value, abs=1e-6)
    assert narrative.cross_evaluation(matrix) in done.stdout
    assert "16 of the 16 pairs were scored on" in done.stderr
    # A later comparison without models takes the stale matrix away.
    assert compare(*scored, "--out", tmp_path, *QUICK).exit_code == 0
    assert not (tmp_path / "cross_evaluation.json").exists()


def test_a_model_that_the_scores_are_not_of_is_refused(scored, table, model_folder, tmp_path):
    models = [part for kind in ("qwen2", "llama") for part in ("--model", model_folder(kind))]
    files, out = (scored[0], scored[2]), tmp_path / "out"
    arguments = (*files, "--out", out, *models, "--task", "table", "--data", table, *QUICK)
    done = compare(*arguments)
    assert isinstance(done.exception, CircuitsError)
    assert f"{files[0]}: these scores were made from {model_folder('llama')}" in str(done.exception)
    assert f"used with the model {model_folder('qwen2')}" in str(done.exception)
    assert not out.exists()
    # Weights in another precision have another hash, and are not taken for another model's.
    done = compare(*arguments, "--n", 4, "--dtype", "bfloat16")
    assert done.exit_code == 0, done.output


def test_a_folder_of_models_and_its_base(scored, table, model_folder, tmp_path):
    (tmp_path / "models").mkdir()
    for name, kind in (("step-100", "mistral"), ("step-20", "qwen2")):
        (tmp_path / "models" / name).symlink_to(model_folder(kind))
    task = ("--task", "table", "--data", table, "--n", 4)
    arguments = (*scored, "--out", tmp_path / "out", "--model", tmp_path / "models", *task, *QUICK)
    done = compare(*arguments)
    assert isinstance(done.exception, CircuitsError)
    assert "base: no such model folder; give the base with --base" in str(done.exception)
    done = compare(*arguments, "--base", model_folder("llama"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "cross_evaluation.json").is_file()


def test_the_base_never_runs_under_a_checkpoints_name(scored, table, model_folder, tmp_path):
    (tmp_path / "step-100").mkdir()
    (tmp_path / "step-20").mkdir()
    _, late, early = scored
    other = EdgeScores.load(scored[0]).save(tmp_path, "tiny")
    arguments = ("--out", tmp_path / "out", "--model", tmp_path, "--base", model_folder("llama"))
    task = ("--task", "table", "--data", table, "--n", 4)
    done = compare(early, late, *arguments, *task, *QUICK)
    assert isinstance(done.exception, CircuitsError)
    assert "none of step-20, step-100 is the base" in str(done.exception)
    (tmp_path / "step-20").rmdir()
    with pytest.raises(CircuitsError, match=r"none of step-20, step-100 is the base"):
        raise compare(early, late, *arguments, *task, *QUICK).exception
    # A name without a step and without a folder is the base; the missing step-20 is still missed.
    with pytest.raises(CircuitsError, match=r"step-20: no such model folder"):
        raise compare(other, early, late, *arguments, *task, *QUICK).exception


def test_what_is_assumed_of_the_order_is_said(scored, tmp_path):
    named = {"final": scored[1], "step-20": scored[2], "tiny": scored[0]}
    files = {name: EdgeScores.load(file).save(tmp_path, name) for name, file in named.items()}
    for first, note, names in (
        ("final", "in order: step-20, final", ("step-20", "final")),
        ("tiny", "tiny is taken to be the base, at step 0", ("tiny", "step-20")),
    ):
        done = compare(files[first], files["step-20"], "--out", tmp_path / first, *QUICK)
        assert done.exit_code == 0 and note in done.stderr, done.output
        assert Evolution.load(tmp_path / first / "comparison.json").names == names


def test_folders_of_scores_name_the_checkpoints(scored, tmp_path):
    for file in scored:
        EdgeScores.load(file).save(tmp_path / file.stem)
    folders = [tmp_path / file.stem for file in scored]
    for given in (folders, [folder / "scores.safetensors" for folder in folders]):
        assert compare(*given, "--out", tmp_path / "out", *QUICK).exit_code == 0
        found = Evolution.load(tmp_path / "out" / "comparison.json")
        assert found.names == ("base", "step-20", "step-100")


def test_a_checkpoint_given_twice_has_not_changed(scored, tmp_path):
    done = compare(scored[0], scored[0], "--out", tmp_path, *QUICK)
    assert done.exit_code == 0, done.output
    assert Evolution.load(tmp_path / "comparison.json").names == ("base", "base (2)")
    assert "base and base (2): no change" in done.stdout
    assert "in order: base, base (2)" in done.stderr


def test_one_checkpoint_is_refused(scored, tmp_path):
    done = compare(scored[0], "--out", tmp_path, *QUICK)
    assert isinstance(done.exception, CircuitsError)
    assert "it takes at least two" in str(done.exception)


def test_refusals(scored, table, tmp_path):
    layout = Layout(2, 2, 1)
    values = torch.randn(16, *layout.shape) * layout.mask
    made = Provenance(data=DataRecord(task="planted", split="all", n=16, fingerprint="x"))
    other = EdgeScores(values.mean(0), layout, "eap-ig", made, values).save(tmp_path, "step-9")
    for arguments, message in (
        ((*scored[:1], other), r"different shapes: 3 layers.*2 layers"),
        ((*scored, "--task", "table"), "--model and --task go together"),
        ((*scored, "--model", "a"), "--model and --task go together"),
        (
            (*scored, "--model", "a", "--model", "b", "--task", "table"),
            "2 models for 3 score files",
        ),
        ((*scored, "--fraction", 0), "fraction 0.0: it must be above 0"),
    ):
        done = compare(*arguments, "--out", tmp_path / "out", *QUICK)
        assert isinstance(done.exception, CircuitsError), done.output
        with pytest.raises(CircuitsError, match=message):
            raise done.exception
    assert not (tmp_path / "out").exists()
