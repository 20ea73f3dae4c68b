"""The race: equal terms, honest counts, resumable. Which arm wins is not a test's business."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from elsewhere import DEVICE, elsewhere
from peft import PeftModel
from transformers import AutoModelForCausalLM

from circuits.errors import CircuitsError
from circuits.importance import LayerImportance
from circuits.runtime.files import working_in
from circuits.tuning.lora_comparison import compare_lora_targets
from circuits.tuning.lora_targets import LoraTarget, standard_lora_targets
from circuits.tuning.rouge import METRICS, evaluate_summaries
from circuits.tuning.settings import FinetuneSettings

SETTINGS = FinetuneSettings(steps=4, learning_rate=1e-2, warmup_steps=1, batch_size=4)
ARMS = standard_lora_targets(
    LayerImportance("drift", (1.0, 2.0, 3.0)), LayerImportance("edges", (3.0, 2.0, 1.0)), 1
)


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    return tmp_path_factory.mktemp("race")


@pytest.fixture
def data(make_examples):
    return make_examples(8, end=0), make_examples(5, seed=1, end=0)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_race(name, model_folder, data, race, tokenizer, monkeypatch):
    train, held_out = data
    call = (model_folder(name), train, held_out, ARMS, SETTINGS, (0, 1), race / name)
    result = compare_lora_targets(*call, rank=2, progress=False)
    assert [(run.arm, run.seed) for run in result.runs] == [
        (arm.name, seed) for arm in ARMS for seed in (0, 1)
    ]
    assert {run.layers for run in result.of("standard")} == {(0, 1, 2)}
    assert {run.layers for run in result.of("targeted")} == {(2,)}
    assert {run.layers for run in result.of("circuit")} == {(0,)}
    assert {run.parameters for run in result.runs} == {result.budget}
    assert {run.rank for run in result.of("random")} == {6}
    for arm in ARMS:
        zero, one = result.of(arm.name)
        assert zero.scores["loss"] != one.scores["loss"]
        assert zero.scores["loss"] != result.base["loss"]

    table = json.loads(json.dumps(result.to_dict()))
    row = table["arms"][1]
    assert (row["name"], row["criterion"], row["layers"]) == ("targeted", "drift", [2])
    assert row["parameters_to_budget"] == 1
    assert set(row["scores"]) == set(METRICS)
    spread = row["scores"]["loss"]
    assert spread["min"] < spread["mean"] < spread["max"]
    assert spread["sd"] > 0

    run = result.of("random")[1]
    folder = race / name / run.adapter
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["layers_to_transform"] == list(run.layers)
    assert Path(config["base_model_name_or_path"]) == model_folder(name)
    base = AutoModelForCausalLM.from_pretrained(model_folder(name), dtype=torch.float32)
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        adapted = PeftModel.from_pretrained(base, folder)
    assert evaluate_summaries(adapted, tokenizer, held_out).means == run.scores

    monkeypatch.setattr("circuits.tuning.lora_comparison.finetune", None)
    assert compare_lora_targets(*call, rank=2, progress=False) == result


def test_a_killed_race_repeats_only_what_is_missing(model_folder, data, tmp_path):
    train, held_out = data
    call = (model_folder("gpt2"), train, held_out, ARMS[:2], SETTINGS, (0,), tmp_path)
    first = compare_lora_targets(*call, progress=False)
    weights = tmp_path / first.of("targeted")[0].adapter / "adapter_model.safetensors"
    before = weights.read_bytes()
    for path in weights.parent.iterdir():
        path.unlink()
    weights.parent.rmdir()
    (tmp_path / "targeted" / "seed-0" / "training_log.json").unlink()
    (tmp_path / "targeted" / "seed-0" / "result.json").unlink()
    kept = (tmp_path / "standard" / "seed-0" / "result.json").stat().st_mtime_ns
    again = compare_lora_targets(*call, progress=False)
    assert weights.read_bytes() == before
    assert again.of("targeted")[0].scores == first.of("targeted")[0].scores
    assert (tmp_path / "standard" / "seed-0" / "result.json").stat().st_mtime_ns == kept


def test_parameters_that_cannot_match_are_reported(model_folder, data, tmp_path):
    train, held_out = data
    lora_targets = (LoraTarget.random(2),)
    settings = replace(SETTINGS, steps=1)
    result = compare_lora_targets(
        model_folder("gpt2"),
        train,
        held_out,
        lora_targets,
        settings,
        (0,),
        tmp_path,
        rank=1,
        progress=False,
    )
    (row,) = result.to_dict()["arms"]
    assert row["rank"] == [2]
    assert row["parameters_to_budget"] == pytest.approx(4 / 3)
    assert row["scores"]["loss"]["sd"] is None


def test_a_race_in_use_is_refused(model_folder, data, tmp_path):
    call = (model_folder("gpt2"), *data, ARMS[:1], SETTINGS, (0,), tmp_path)
    with (
        working_in(tmp_path, "x"),
        pytest.raises(CircuitsError, match="another process works in this folder"),
    ):
        compare_lora_targets(*call, progress=False)


def test_random_arms_draw_anew_for_each_seed():
    arm = LoraTarget.random(3)
    draws = {arm.choose(12, seed) for seed in range(20)}
    assert len(draws) > 10
    assert all(len(set(draw)) == 3 and draw == tuple(sorted(draw)) for draw in draws)
    assert arm.choose(12, 5) == arm.choose(12, 5)


def test_refusals(model_folder, data, tmp_path):
    train, held_out = data
    folder = model_folder("gpt2")

    def race(lora_targets=ARMS[:1], settings=SETTINGS, seeds=(0,), out="x", data=train):
        compare_lora_targets(
            folder, data, held_out, lora_targets, settings, seeds, tmp_path / out, progress=False
        )

    with pytest.raises(CircuitsError, match="early stopping"):
        race(settings=replace(SETTINGS, patience=2))
    with pytest.raises(CircuitsError, match="name of its own"):
        race(lora_targets=(LoraTarget("a"), LoraTarget("a")))
    with pytest.raises(CircuitsError, match="no two alike"):
        race(seeds=(1, 1))
    with pytest.raises(CircuitsError, match="layer 3 of 3 layers"):
        race(lora_targets=(LoraTarget("far", (3,)),), out="far")
    with pytest.raises(CircuitsError, match="4 of 3 layers"):
        race(lora_targets=(LoraTarget.random(4),), out="many")
    settings = replace(SETTINGS, steps=1, warmup_steps=0)
    race(settings=settings, out="done")
    with pytest.raises(CircuitsError, match=r"holds another run .*examples was"):
        race(settings=settings, out="done", data=train[:5])
    with pytest.raises(CircuitsError, match=r"holds arm 'standard' on layers \[0, 1, 2\]"):
        race(lora_targets=(LoraTarget("standard", (1,)),), settings=settings, out="done")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoraTarget("../up"), "a name of letters"),
        (lambda: LoraTarget("a", (1,), 2), "given or drawn"),
        (lambda: LoraTarget("a", ()), "no such layers"),
        (lambda: LoraTarget("a", draw=0), "at least 1"),
    ],
)
def test_invalid_arms_cannot_be_made(make, message):
    with pytest.raises(CircuitsError, match=message):
        make()


def test_a_race_on_another_device(small_gpt2_folder, data, tmp_path):
    train, held_out = data
    lora_targets = standard_lora_targets(
        LayerImportance("a", (1.0, 2.0)), LayerImportance("b", (2.0, 1.0)), 1
    )

    def race(device):
        call = (
            small_gpt2_folder,
            train,
            held_out,
            lora_targets,
            SETTINGS,
            (0,),
            tmp_path / str(device),
        )
        return compare_lora_targets(*call, rank=2, device=device, progress=False)

    with elsewhere():
        found = race(DEVICE)
    expected = race("cpu")
    assert found.base["loss"] == pytest.approx(expected.base["loss"], rel=1e-5)
    for one, other in zip(found.runs, expected.runs, strict=True):
        assert one.scores["loss"] != found.base["loss"]  # the generator differs: loading draws
        assert one.scores["loss"] == pytest.approx(other.scores["loss"], rel=2e-2)
