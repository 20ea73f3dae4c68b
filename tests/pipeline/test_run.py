"""The whole pipeline in miniature: every output is there, makes sense, and survives a kill."""

import json
import shutil
import time
from pathlib import Path

import killing
import pytest
import torch
import yaml

from circuits import cli
from circuits.errors import CircuitsError
from circuits.graph import Circuit, EdgeScores
from circuits.importance import critical_layers
from circuits.models import HookedModel
from circuits.pipeline import load_recipe, run
from circuits.runs import open_run

MINIATURE = [
    "finetune.steps=24",
    "finetune.batch_size=16",
    "finetune.examples=384",
    "finetune.checkpoint_steps=[12,24]",
    "finetune.validation=8",
    "finetune.save_state_every=5",
    "pairs.score=16",
    "pairs.evaluate=8",
    "evaluation.other_examples=8",
    "evaluation.minimality={n_pairs: 4, n_controls: 5}",
    "evaluation.completeness={n_pairs: 4, n_sets: 3, n_steps: 2, n_candidates: 3}",
    "evaluation.stability.n_resamples=20",
    "evaluation.perturbations=[typos]",
    "evaluation.rivals={multiples: [1]}",
    "evaluation.ablations=[corrupted,mean]",
    "evaluation.quality.n_examples=4",
    "comparison.n_resamples=200",
    "model_diff.documents=12",
    "lora.steps=4",
    "lora.batch_size=8",
    "lora.warmup_steps=2",
    "lora.examples=32",
    "lora.held_out=4",
    "lora.seeds=[0,1]",
    "lora.draws=2",
    "lora.validation=4",
]
UNASKED = [
    "evaluation.corruptions=[]",
    "evaluation.perturbations=[]",
    "evaluation.other_examples=0",
    "evaluation.minimality=null",
    "evaluation.completeness=null",
    "evaluation.quality=null",
    "evaluation.ablations=[]",
    "evaluation.clusters=null",
    "evaluation.rivals=null",
]
NAMES = ["base", "step-12", "step-24"]
MAIN = Path(cli.__file__).with_name("__main__.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "miniature"
    run(load_recipe("quickstart", MINIATURE), folder, progress=False)
    return folder


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_every_file_of_a_run_folder_is_there(folder):
    expected = ["recipe.yaml", "environment.json", "evaluation.json", "comparison.json"]
    expected += [
        "cross_evaluation.json",
        "model_diff.json",
        "lora.json",
        "report.html",
        "checkpoints",
        "pairs",
    ]
    expected += [f"scores/{name}.safetensors" for name in NAMES]
    expected += [f"circuits/{name}.json" for name in NAMES]
    assert [name for name in expected if not (folder / name).exists()] == []
    assert not [path for path in folder.rglob(".*") if path.name not in (".stages", ".lock")], (
        "left"
    )


def test_scores_and_circuits_make_sense(folder):
    layout = HookedModel.from_pretrained("newsroom-gpt2", device="cpu").layout
    fingerprints = set()
    for name in NAMES:
        scores = EdgeScores.load(folder / "scores" / f"{name}.safetensors")
        assert scores.layout == layout and scores.per_example.shape[0] == 16
        assert torch.allclose(scores.per_example.mean(0), scores.matrix, atol=1e-5)
        assert float(scores.matrix.abs().max()) > 1e-2
        fingerprints.add(scores.provenance.data.fingerprint)
        circuit = Circuit.load(folder / "circuits" / f"{name}.json")
        assert 0 < len(circuit) <= round(0.1 * layout.n_edges)
        assert torch.equal(circuit.pruned().mask, circuit.mask)
    assert len(fingerprints) == 1, "every checkpoint is scored on the same pairs"


def test_evaluation_makes_sense(folder):
    found = open_run(folder).evaluation
    assert list(found.order) == NAMES == list(found.checkpoints)
    losses = [one.loss.value for one in found.quality.values()]
    assert losses[-1] < losses[0] - 1, "fine-tuning lowers the held-out loss"
    for one in found.checkpoints.values():
        curves = one.curves.curves
        for curve in curves.values():
            assert curve.values[-1].value == pytest.approx(1.0, abs=1e-3)
            assert all(f.low <= f.value <= f.high for f in curve.values)
        assert curves["random"].area_f.value == pytest.approx(0.25, abs=0.12)
        assert one.circuit.faithfulness.value > curves["random"].values[-2].value
        assert one.performance.n == 16
        assert set(one.robustness) == {
            "evaluate",
            "filler",
            "swap",
            "shuffle",
            "typos",
            "other-examples",
        }
        assert one.minimality.faithfulness.n == 4 and len(one.minimality.control) == 5
        assert one.completeness.incompleteness.n == 2 and len(one.completeness.random) == 3
        assert one.stability.resample_jaccard.value > one.stability.control.high
        assert len(one.rivals.rivals) == 1 and set(one.ablations) == {"corrupted", "mean"}
        assert one.ablations["corrupted"].circuit == one.circuit.faithfulness
    fingerprints = {pairs.fingerprint for pairs in found.pairs.values()}
    assert len(fingerprints) == len(found.pairs), "no set of pairs is used twice"
    page = (folder / "report.html").read_text()
    assert "The recipe leaves out nodes that take over (--set evaluation.backups={}) and " in page
    assert "--set evaluation.rivals" not in page


def test_comparison_and_model_diff_make_sense(folder):
    evolution = open_run(folder).comparison
    assert list(evolution.names) == NAMES and len(evolution.comparisons) == 3
    assert evolution.n == 16 and evolution.n_resamples == 200
    diffs = open_run(folder).model_diff
    assert diffs.split == "validation", "LoRAs are put by it and judged on test articles"
    sources = {"base": "newsroom-gpt2"} | {name: f"checkpoints/{name}" for name in NAMES[1:]}
    assert diffs.models == sources
    (diff,) = diffs.comparisons
    assert diff.n_documents == 12 and not diff.identical
    assert float(diff.kl.value.min()) >= 0
    assert (diff.model, diff.base) == ("step-24", "base")
    assert diff.head_type("sentence-initial").n == 12
    trajectory = diffs.trajectory
    assert trajectory.checkpoints == tuple(NAMES) and trajectory.steps == (0, 12, 24)
    assert float(trajectory.moved.value[-1].min()) > 0
    page = (folder / "report.html").read_text()
    assert '"type":"scatter3d"' in page and "sentence-initial" in page


def test_circuits_are_cross_evaluated(folder):
    found = open_run(folder).cross_evaluation
    assert list(found.circuits) == NAMES == list(found.models)
    assert found.training_steps == [0, 12, 24] and found.n == 8
    own = open_run(folder).evaluation.checkpoints
    for place, row in enumerate(found.rows):
        assert len(row.f) == 3 and row.behind[place].value == 0
        expected = own[row.model].circuit.faithfulness.value
        assert found.own(row.model).value == pytest.approx(expected, abs=1e-6)
    assert found.rows[-1].f[-1].value > found.rows[-1].control.value
    assert "Circuits in other checkpoints" in (folder / "report.html").read_text()


def test_loras_are_compared_at_equal_size_and_steps(folder):
    found = open_run(folder).lora
    names = [target.name for target in found.targets]
    assert names == ["circuit", "attention-kl", "random", "standard"] and found.seeds == (0, 1)
    for name in names:
        assert found.parameters(name) / found.budget == pytest.approx(1.0, abs=0.1)
    assert found.layers("standard") == (0, 1, 2, 3) and len(found.layers("circuit")) == 2
    edges = found.importance[-1]
    assert edges.criterion == "edges" and len(edges.values) == 4
    assert found.layers("circuit") == critical_layers(edges, 2)
    assert len(found.runs) == 8 and all(run.scores.loss < found.base.loss for run in found.runs)


def test_the_recipe_is_written_as_resolved(folder):
    written = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert written["lora"]["steps"] == 4 and written["attribution"]["quadrature"] == "midpoint"
    assert set(open_run(folder).environment.seconds) >= {
        "pairs",
        "checkpoints",
        "scores/base",
        "lora",
    }


def test_a_second_run_makes_nothing_again(folder):
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".html"]
    kept = [path for path in kept if path.name not in ("evaluation.json", "environment.json")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    run(load_recipe("quickstart", MINIATURE), folder, progress=False)
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_a_run_that_lost_a_stage_makes_it_again_to_the_same_bytes(folder, tmp_path):
    """As one that was killed before it recorded the stage; kills themselves are exhaustive."""
    killed = shutil.copytree(folder, tmp_path / "killed")
    scores = Path("scores", "step-24.safetensors")
    for lost in (Path(".stages", "scores-step-24.json"), scores, Path("circuits", "step-24.json")):
        (killed / lost).unlink()
    kept = (killed / "scores" / "step-12.safetensors").stat().st_mtime_ns
    run(load_recipe("quickstart", MINIATURE), killed, progress=False)
    for name in (scores, Path("circuits", "step-24.json")):
        assert (killed / name).read_bytes() == (folder / name).read_bytes(), name
    assert (killed / "scores" / "step-12.safetensors").stat().st_mtime_ns == kept


def test_another_recipe_is_refused(folder):
    with pytest.raises(CircuitsError, match="written by another recipe"):
        run(load_recipe("quickstart", [*MINIATURE, "seed=1"]), folder, progress=False)


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(CircuitsError, match="is not a run folder"):
        run(load_recipe("quickstart", MINIATURE), tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.exhaustive
def test_killed_runs_end_with_the_same_scores(tmp_path):
    small = [*MINIATURE, "lora=null", "model_diff=null", "comparison.n_resamples=100", *UNASKED]
    small += ["finetune.steps=6", "finetune.checkpoint_steps=[3,6]", "finetune.examples=48"]
    small += ["finetune.batch_size=4", "finetune.save_state_every=2", "finetune.warmup_steps=1"]
    small += ["pairs.score=8", "pairs.evaluate=4", "comparison.sizes=[0.1]"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(load_recipe("quickstart", small), whole, progress=False)
    arguments = ["run", "quickstart", "--quiet", "--out", killed]
    arguments += [option for override in small for option in ("--set", override)]
    for landmark in ["checkpoints/*state*", "scores/base.safetensors"]:
        process = killing.start(MAIN, *arguments)
        deadline = time.monotonic() + 600
        while not list(killed.glob(landmark)):
            assert process.is_alive(), "ended before it could be killed"
            assert time.monotonic() < deadline, f"{landmark} did not appear"
            time.sleep(0.005)
        process.kill()
        process.join()
        assert not (killed / "report.html").exists()
    killing.run(MAIN, *arguments, said=tmp_path / "said.txt")
    for name in ("base", "step-3", "step-6"):
        for file in (f"scores/{name}.safetensors", f"circuits/{name}.json"):
            assert (killed / file).read_bytes() == (whole / file).read_bytes(), file


@pytest.mark.exhaustive
def test_the_cnn_dailymail_recipe_on_local_stand_ins(tmp_path, model_folder):
    """The same stages at GPT-2 scale, on a tiny GPT-2 and articles of a few sentences."""
    rows = [
        {
            "article": f"The mayor of town {i} is at home. Mary gave John book {i} to read. "
            f"Rome is in Italy. It was {i} degrees.",
            "highlights": f"Mary gave John book {i}.",
            "split": ["train", "train", "validation", "test"][i % 4],
        }
        for i in range(64)
    ]
    data = tmp_path / "articles.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    overrides = [
        f"model={model_folder('gpt2-long')}",
        "device=cpu",
        "task.options.dataset=null",
        f"data={data}",
        "finetune.examples=16",
        "finetune.validation=8",
        "finetune.steps=3",
        "finetune.warmup_steps=1",
        "finetune.checkpoint_steps=[2]",
        "pairs.score=10",
        "pairs.evaluate=8",
        "evaluation.quality.n_examples=4",
        "evaluation.other_examples=4",
        "comparison.n_resamples=100",
        "model_diff.documents=8",
        "model_diff.restore={candidates: 2, sizes: [1, 2], greedy: 1, draws: 1}",
        "lora.circuits=1",
        "lora.layers=1",
        "lora.rank=2",
        "lora.steps=2",
        "lora.warmup_steps=1",
        "lora.examples=16",
        "lora.held_out=4",
        "lora.validation=2",
        "lora.draws=1",
        "evaluation.stability.n_resamples=20",
        "evaluation.minimality={n_pairs: 2, n_controls: 2}",
        "evaluation.completeness={n_pairs: 2, n_sets: 2}",
    ]
    report = run(load_recipe("gpt2-cnn-dailymail", overrides), tmp_path / "run", progress=False)
    assert report.read_text().startswith("<!")
    assert open_run(tmp_path / "run").order == ("base", "step-2", "step-3")
    shown = open_run(tmp_path / "run").example
    salient = next(s.text for s in shown.sentences if s.salient)
    assert salient.startswith("Mary gave John")
    opened = open_run(tmp_path / "run")
    found, crossed = opened.lora_circuits, opened.lora_cross_evaluation
    names = [f"{target.name}-seed-0" for target in opened.lora.targets]
    assert list(found.adapters) == names and (found.base, found.tuned) == ("base", "step-3")
    assert crossed.circuits == ("base", *names, "step-3") == crossed.models and crossed.n == 8
    same = opened.cross_evaluation
    assert crossed.f("base", "step-3") == same.f("base", "step-3"), "the same circuits and pairs"
    assert found.scored == opened.comparison.data and found.read.n == 8
    assert all(one.kl.value > 0 for one in found.attention)
    assert len(found.attention) == 2 * len(names) + 1
    put_back = opened.restoration
    assert (put_back.data.n, put_back.chosen_on.n) == (8, 8)
    assert (put_back.model, put_back.base) == ("step-3", "base")
