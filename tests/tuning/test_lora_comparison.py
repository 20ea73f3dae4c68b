"""Equal terms, honest counts, resumable. Which condition wins is not a test's business."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from elsewhere import DEVICE, elsewhere
from peft import PeftModel
from transformers import AutoModelForCausalLM

from circuits.errors import CircuitsError
from circuits.importance import LayerImportance
from circuits.options.tuning import FinetuneSettings
from circuits.runtime.files import working_in
from circuits.tuning.lora_comparison import LoraProtocol, compare_lora_targets
from circuits.tuning.lora_result import LoraComparison, RunResult
from circuits.tuning.lora_targets import LoraTarget, standard_lora_targets
from circuits.tuning.rouge import evaluate_summaries

SETTINGS = FinetuneSettings(steps=4, learning_rate=1e-2, warmup_steps=1, batch_size=4)
TARGETS = standard_lora_targets(
    LayerImportance("drift", (1.0, 2.0, 3.0)), 1, LayerImportance("edges", (3.0, 2.0, 1.0))
)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture
def data(make_examples):
    return make_examples(8, end=0), make_examples(5, seed=1, end=0)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_comparison(name, model_folder, data, comparison, tokenizer, monkeypatch, tmp_path):
    train, held_out = data
    protocol = LoraProtocol(SETTINGS, (0, 1), rank=2)
    call = (model_folder(name), train, held_out, TARGETS, protocol, comparison / name)
    result = compare_lora_targets(*call)
    assert [(run.condition, run.seed) for run in result.runs] == [
        (target.name, seed) for target in TARGETS for seed in (0, 1)
    ]
    assert result.seeds == (0, 1)
    assert {run.layers for run in result.of("standard")} == {(0, 1, 2)}
    assert {run.layers for run in result.of("targeted")} == {(2,)}
    assert {run.layers for run in result.of("circuit")} == {(0,)}
    assert {run.parameters for run in result.runs} == {result.budget}
    assert {run.rank for run in result.of("random")} == {6}
    for target in TARGETS:
        zero, one = result.of(target.name)
        assert zero.scores.loss != one.scores.loss
        assert zero.scores.loss != result.base.loss
    assert result.layers("targeted") == (2,)
    random = {layer for run in result.of("random") for layer in run.layers}
    assert result.layers("random") == tuple(sorted(random))
    assert result.parameters("targeted") == result.budget
    spread = result.spread("targeted", lambda means: means.loss)
    losses = [run.scores.loss for run in result.of("targeted")]
    assert (spread.low, spread.high) == (min(losses), max(losses))
    assert spread.mean == pytest.approx(sum(losses) / 2)
    assert spread.sd == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5) and spread.sd > 0

    run = result.of("random")[1]
    folder = comparison / name / run.adapter
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["layers_to_transform"] == list(run.layers)
    assert Path(config["base_model_name_or_path"]) == model_folder(name)
    base = AutoModelForCausalLM.from_pretrained(model_folder(name), dtype=torch.float32)
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        adapted = PeftModel.from_pretrained(base, folder)
    assert evaluate_summaries(adapted, tokenizer, held_out).means == run.scores

    monkeypatch.setattr("circuits.tuning.lora_comparison.finetune", None)
    assert compare_lora_targets(*call) == result
    path = result.save(tmp_path / "lora.json")
    assert LoraComparison.load(path) == result
    kept = RunResult.load(comparison / name / "random" / "seed-1" / "result.json")
    assert kept.run == run and kept.scores.means == run.scores


def test_a_killed_comparison_repeats_only_what_is_missing(model_folder, data, tmp_path):
    train, held_out = data
    call = (
        model_folder("gpt2"),
        train,
        held_out,
        TARGETS[:2],
        LoraProtocol(SETTINGS, (0,)),
        tmp_path,
    )
    first = compare_lora_targets(*call)
    weights = tmp_path / first.of("targeted")[0].adapter / "adapter_model.safetensors"
    before = weights.read_bytes()
    for path in weights.parent.iterdir():
        path.unlink()
    weights.parent.rmdir()
    (tmp_path / "targeted" / "seed-0" / "training_log.json").unlink()
    (tmp_path / "targeted" / "seed-0" / "result.json").unlink()
    kept = (tmp_path / "standard" / "seed-0" / "result.json").stat().st_mtime_ns
    again = compare_lora_targets(*call)
    assert weights.read_bytes() == before
    assert again.of("targeted")[0].scores == first.of("targeted")[0].scores
    assert (tmp_path / "standard" / "seed-0" / "result.json").stat().st_mtime_ns == kept


def test_parameters_that_cannot_match_are_reported(model_folder, data, tmp_path):
    train, held_out = data
    protocol = LoraProtocol(replace(SETTINGS, steps=1), (0,), rank=1)
    targets = (LoraTarget.random(2),)
    result = compare_lora_targets(
        model_folder("gpt2"), train, held_out, targets, protocol, tmp_path
    )
    assert [run.rank for run in result.runs] == [2]
    assert result.parameters("random") / result.budget == pytest.approx(4 / 3)
    assert math.isnan(result.spread("random", lambda means: means.loss).sd)


def test_a_comparison_in_use_is_refused(model_folder, data, tmp_path):
    call = (model_folder("gpt2"), *data, TARGETS[:1], LoraProtocol(SETTINGS, (0,)), tmp_path)
    with (
        working_in(tmp_path, "x"),
        pytest.raises(CircuitsError, match="another process works in this folder"),
    ):
        compare_lora_targets(*call)


def test_random_layers_are_drawn_for_each_seed():
    target = LoraTarget.random(3)
    draws = {target.choose(12, seed) for seed in range(20)}
    assert len(draws) > 10
    assert all(len(set(draw)) == 3 and draw == tuple(sorted(draw)) for draw in draws)
    assert target.choose(12, 5) == target.choose(12, 5)


def test_refusals(model_folder, data, tmp_path):
    train, held_out = data
    folder = model_folder("gpt2")

    def compare(targets=TARGETS[:1], settings=SETTINGS, seeds=(0,), out="x", data=train):
        protocol = LoraProtocol(settings, seeds)
        compare_lora_targets(
            folder,
            data,
            held_out,
            targets,
            protocol,
            tmp_path / out,
        )

    with pytest.raises(CircuitsError, match="early stopping"):
        compare(settings=replace(SETTINGS, patience=2))
    with pytest.raises(CircuitsError, match="its own name"):
        compare(targets=(LoraTarget("a"), LoraTarget("a")))
    with pytest.raises(CircuitsError, match="no two alike"):
        compare(seeds=(1, 1))
    with pytest.raises(CircuitsError, match="layer 3 of 3 layers"):
        compare(targets=(LoraTarget("far", (3,)),), out="far")
    with pytest.raises(CircuitsError, match="4 of 3 layers"):
        compare(targets=(LoraTarget.random(4),), out="many")
    settings = replace(SETTINGS, steps=1, warmup_steps=0)
    compare(settings=settings, out="done")
    with pytest.raises(CircuitsError, match=r"holds another run .*examples was"):
        compare(settings=settings, out="done", data=train[:5])
    with pytest.raises(CircuitsError, match=r"holds condition 'standard' on layers \[0, 1, 2\]"):
        compare(targets=(LoraTarget("standard", (1,)),), settings=settings, out="done")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoraTarget("../up"), "a name of letters"),
        (lambda: LoraTarget("a", (1,), 2), "given or drawn, not both"),
        (lambda: LoraTarget("a", ()), "no such layers"),
        (lambda: LoraTarget("a", draw=0), "at least 1"),
    ],
)
def test_invalid_targets_cannot_be_made(make, message):
    with pytest.raises(CircuitsError, match=message):
        make()


@pytest.mark.exhaustive
def test_a_comparison_on_another_device(small_gpt2_folder, data, tmp_path):
    train, held_out = data
    targets = standard_lora_targets(
        LayerImportance("a", (1.0, 2.0)), 1, LayerImportance("b", (2.0, 1.0))
    )
    protocol = LoraProtocol(SETTINGS, (0,), rank=2)

    def compare(device):
        call = (small_gpt2_folder, train, held_out, targets, protocol, tmp_path / str(device))
        return compare_lora_targets(*call, device=device)

    with elsewhere():
        found = compare(DEVICE)
    expected = compare("cpu")
    assert found.base.loss == pytest.approx(expected.base.loss, rel=1e-5)
    for one, other in zip(found.runs, expected.runs, strict=True):
        assert one.scores.loss != found.base.loss  # the generator differs: loading draws
        assert one.scores.loss == pytest.approx(other.scores.loss, rel=2e-2)


def test_the_circuit_has_a_condition_of_its_own_beside_another_criterion():
    edges, drift = LayerImportance("edges", (1.0, 3.0)), LayerImportance("drift", (3.0, 1.0))
    alone = standard_lora_targets(edges, 1)
    assert [target.name for target in alone] == ["standard", "targeted", "random"]
    assert (alone[1].layers, alone[1].criterion) == ((1,), "edges")
    both = standard_lora_targets(drift, 1, edges)
    assert [target.name for target in both] == ["standard", "targeted", "circuit", "random"]
    assert (both[1].layers, both[2].layers) == ((0,), (1,))
