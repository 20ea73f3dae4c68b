"""A run on one revision of a hub's model: every stage takes that one, LoRAs too."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from cli.inside import circuits
from pipeline.test_adapter_base import SMALL

import tasks
from circuits.graph import Circuit, EdgeScores
from circuits.models import HookedModel, load_model
from circuits.models.checkpoints import resolve
from circuits.pipeline import load_recipe, run
from circuits.runs import open_run
from circuits.tuning.rouge import evaluate_summaries

LORA = (
    "lora={layers: 1, rank: 2, steps: 1, warmup_steps: 1, examples: 8, held_out: 4, batch_size: 8, "
    "learning_rate: 1.0e-3, seeds: [0], validation: 2, draws: 1}"
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub's cache with two commits of org/tiny, `main` and `step3`, of other weights."""
    repository = tmp_path / "hub" / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    for name, commit in (("main", "a" * 40), ("step3", "b" * 40)):
        (repository / "refs" / name).write_text(commit)
        snapshot = repository / "snapshots" / commit
        shutil.copytree(resolve("newsroom-gpt2")[0], snapshot)
        if name == "step3":
            model, _ = load_model("newsroom-gpt2", device="cpu")
            torch.manual_seed(3)
            with torch.no_grad():
                for block in model.transformer.h:
                    block.mlp.c_proj.weight.add_(0.05 * torch.randn(block.mlp.c_proj.weight.shape))
            model.save_pretrained(snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return [repository / "snapshots" / (letter * 40) for letter in "ab"]


@pytest.mark.exhaustive
def test_every_stage_takes_the_revision(hub, tmp_path):
    small = [override for override in SMALL if not override.startswith("lora")]
    assert "model_diff=null" in small, "the circuit points without it"
    recipe = load_recipe("quickstart", ["model=org/tiny@step3", *small, LORA])
    folder = run(recipe, tmp_path / "run", progress=False).parent
    other, wanted = (HookedModel.from_pretrained(place, device="cpu") for place in hub)
    scored = EdgeScores.load(folder / "scores/base.safetensors").provenance.model
    assert scored.fingerprint == wanted.fingerprint != other.fingerprint
    task = tasks.load(recipe.task.name, **recipe.task.options)
    held_out = task.examples(wanted.tokenizer, 4, split="test", seed=recipe.seed)
    loss, others = (
        evaluate_summaries(model.hf, model.tokenizer, held_out).means.loss
        for model in (wanted, other)
    )
    found = open_run(folder).lora
    assert {target.name for target in found.targets} == {"circuit", "random", "standard"}
    assert found.targets[0].criterion == "edges"
    assert found.base.loss == pytest.approx(loss, rel=1e-5) != pytest.approx(others, rel=1e-3)
    (record,) = (folder / "lora").glob("standard/seed-0/step-1/adapter_config.json")
    made = json.loads(record.read_text())
    assert (made["base_model_name_or_path"], made["revision"]) == ("org/tiny", "b" * 40)


def test_the_configuration_of_a_lora_names_it_too(hub, tmp_path):
    layout = HookedModel.from_pretrained(hub[1], device="cpu").layout
    Circuit.full(layout).save(tmp_path / "circuit.json")
    made = circuits(
        *("lora", "--model", "org/tiny@step3", "--circuit", tmp_path / "circuit.json"),
        *("--layers", 1, "--out", tmp_path / "lora"),
    )
    assert made.returncode == 0, made.stderr
    record = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (record["base_model_name_or_path"], record["revision"]) == ("org/tiny", "b" * 40)
