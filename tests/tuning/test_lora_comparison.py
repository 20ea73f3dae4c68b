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
from circuits.importance import LayerImportance, MapImportance, RoleImportance
from circuits.models.adapters import quiet_peft
from circuits.options.tuning import AdapterOptions, FinetuneSettings, LoraProtocol
from circuits.runtime.files import working_in
from circuits.tuning import lora_comparison
from circuits.tuning.conditions import lora_targets
from circuits.tuning.lora_comparison import ComparedExamples, compare_lora_targets
from circuits.tuning.lora_result import LoraComparison, RunResult
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.planned_runs import planned_trials, run_settings, trial_settings
from circuits.tuning.rouge import evaluate_summaries
from circuits.tuning.targets import adapter_ranks, trainable_parameters

SETTINGS = FinetuneSettings(
    steps=4, learning_rate=1e-2, warmup_steps=1, batch_size=4, validate_every=2
)
IMPORTANCE = {
    "attention-kl": LayerImportance("attention-kl", (1.0, 2.0, 3.0)),
    "edges": LayerImportance("edges", (3.0, 2.0, 1.0)),
}
MAPS = MapImportance(
    "edges",
    3,
    (
        RoleImportance(0, "q", (1.0, 2.0, 0.0, 0.0)),
        RoleImportance(0, "attention-output", (1.0, 1.0, 1.0, 1.0)),
        RoleImportance(2, "mlp-in", (5.0,)),
    ),
)
ALL = (
    *("circuit", "modules", "attention-kl", "complement", "random", "standard", "full"),
    *("original-circuit", "original-standard"),
)
FEW = lora_targets(("circuit", "random", "standard"), IMPORTANCE, MAPS, 1)


def protocol(training=SETTINGS, seeds=(0,), **more):
    return LoraProtocol(**{"training": training, "seeds": seeds, "draws": 1, "rank": 2, **more})


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture
def data(make_examples):
    return ComparedExamples(
        make_examples(8, end=0), make_examples(5, seed=1, end=0), make_examples(3, seed=2, end=0)
    )


@pytest.mark.exhaustive_but("llama")
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_comparison(name, model_folder, data, comparison, tokenizer, monkeypatch, tmp_path):
    targets = lora_targets(ALL, IMPORTANCE, MAPS, 1)
    call = (model_folder(name), data, targets, protocol(seeds=(0, 1)), comparison / name)
    result = compare_lora_targets(*call)
    assert [(run.condition, run.seed) for run in result.runs] == [
        (target.name, seed) for target in targets for seed in (0, 1)
    ]
    assert result.seeds == (0, 1)
    assert {run.layers for run in result.of("standard")} == {(0, 1, 2)}
    assert {run.layers for run in result.of("attention-kl")} == {(2,)}
    assert {run.layers for run in result.of("circuit")} == {(0,)}
    assert result.layers("complement") == (1, 2) and result.layers("modules") == (0, 2)
    for equal in ("circuit", "attention-kl", "random", "standard"):
        assert result.parameters(equal) == result.budget
    assert 0.8 < result.parameters("modules") / result.budget <= 1
    assert {rank for run in result.of("random") for rank in run.ranks.values()} == {6}
    for target in targets:
        zero, one = result.of(target.name)
        assert zero.scores.loss != one.scores.loss
        assert zero.scores.loss != result.base.loss
        assert [entry.step for entry in zero.validation] == [0, 2, 4] and zero.fitted > 0
    random = {layer for run in result.of("random") for layer in run.layers}
    assert result.layers("random") == tuple(sorted(random))
    spread = result.spread("circuit", lambda means: means.loss)
    losses = [run.scores.loss for run in result.of("circuit")]
    assert (spread.low, spread.high) == (min(losses), max(losses))
    assert spread.mean == pytest.approx(sum(losses) / 2)
    assert spread.sd == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5) and spread.sd > 0
    apart = result.difference("circuit", "full", "held-out loss")
    assert apart.value.value == pytest.approx(
        spread.mean - result.spread("full", lambda means: means.loss).mean
    )
    assert len(result.differences) == 2 * 10 * 9 / 2 and apart.value.low < apart.value.high

    # What the table counts is in the adapters, which plain PEFT loads.
    original = result.of("original-standard")[0]
    assert set(original.ranks.values()) == {8} and original.learning_rate == 5e-5
    assert {one.split(".")[-1] for one in original.ranks} == (
        {"c_attn"} if name == "gpt2" else {"q_proj", "v_proj"}
    )
    for run in (result.of("modules")[1], result.of("random")[0], original):
        folder = comparison / name / run.adapter
        config = json.loads((folder / "adapter_config.json").read_text())
        assert Path(config["base_model_name_or_path"]) == model_folder(name)
        base = AutoModelForCausalLM.from_pretrained(model_folder(name), dtype=torch.float32)
        with quiet_peft():
            adapted = PeftModel.from_pretrained(base, folder, is_trainable=True)
        assert adapter_ranks(adapted) == run.ranks
        assert trainable_parameters(adapted) == run.parameters > 0
        assert evaluate_summaries(adapted, tokenizer, data.held_out).means == run.scores
    whole = result.of("full")[0]
    tuned = AutoModelForCausalLM.from_pretrained(comparison / name / whole.adapter)
    assert whole.parameters == sum(one.numel() for one in tuned.parameters()) and not whole.ranks

    monkeypatch.setattr(lora_comparison, "finetune", None)  # a finished run is not run again
    assert compare_lora_targets(*call) == result
    path = result.save(tmp_path / "lora.json")
    assert LoraComparison.load(path) == result
    kept = RunResult.load(comparison / name / "random" / "seed-1" / "result.json")
    assert kept.run == result.of("random")[1] and kept.scores.means == kept.run.scores


def test_learning_rates_are_tuned_and_what_is_done_stays(model_folder, data, tmp_path, monkeypatch):
    asked = protocol(learning_rates=(1e-2, 1e-6), tuning_steps=3, draws=2)
    targets = (*FEW[:2], LoraTarget("own", (1,), learning_rate=1e-3, batch_size=2))
    trained = []

    def counted(model, examples, out, **more):
        trained.append((str(Path(out).relative_to(tmp_path)), more["settings"].learning_rate))
        return finetune(model, examples, out, **more)

    finetune = lora_comparison.finetune
    monkeypatch.setattr(lora_comparison, "finetune", counted)
    call = (model_folder("gpt2"), data)
    result = compare_lora_targets(*call, targets, asked, tmp_path)
    assert trained[:4] == [
        (f"{name}/rate-{rate:g}", rate) for name in ("circuit", "random") for rate in (1e-6, 1e-2)
    ]
    assert [name for name, _ in trained[4:]] == [
        *("circuit/seed-0", "random/seed-0", "random/seed-0-draw-1", "own/seed-0")
    ]
    for choice in result.rates:
        best = min(choice.trials, key=lambda trial: trial.loss)
        assert choice.rate == best.rate and choice.at_edge and (choice.steps, choice.seed) == (3, 1)
        assert {run.learning_rate for run in result.of(choice.condition)} == {best.rate}
    assert [run.learning_rate for run in result.of("own")] == [1e-3]
    assert {run.draw for run in result.of("random")} == {0, 1}
    assert not list(tmp_path.rglob("rate-*/step-*")), "a trial leaves no model behind"

    trained.clear()
    more = replace(asked, seeds=(0, 2), learning_rates=(1e-7, 1e-6, 1e-2))
    again = compare_lora_targets(*call, (*targets[:1], FEW[2]), more, tmp_path)
    done = {"circuit/rate-1e-06", "circuit/rate-0.01", "circuit/seed-0"}
    assert again.seeds == (0, 2) and done.isdisjoint(name for name, _ in trained)
    assert len(again.rates[0].trials) == 3


def test_a_loss_that_is_not_finite_loses_its_rate(model_folder, data, tmp_path):
    asked = protocol(learning_rates=(1e-3, 1e30))
    result = compare_lora_targets(model_folder("gpt2"), data, FEW[:1], asked, tmp_path / "one")
    assert result.rates[0].rate == 1e-3 and math.isnan(result.rates[0].trials[1].loss)
    with pytest.raises(CircuitsError, match=r"not finite at any learning rate of \[1e\+30\]"):
        asked = replace(asked, learning_rates=(1e30,))
        compare_lora_targets(model_folder("gpt2"), data, FEW[:1], asked, tmp_path / "two")


@pytest.mark.parametrize("form", [{"dora": True}, {"rslora": True, "dropout": 0.1}])
def test_other_adapters_have_their_parameters_counted(form, model_folder, data, tmp_path):
    asked = protocol(replace(SETTINGS, steps=1), adapter=AdapterOptions(**form))
    targets = lora_targets(("modules", "standard"), IMPORTANCE, MAPS, 1)
    result = compare_lora_targets(model_folder("llama"), data, targets, asked, tmp_path)
    assert result.of("standard")[0].parameters == result.budget
    for run in result.runs:
        base = AutoModelForCausalLM.from_pretrained(model_folder("llama"), dtype=torch.float32)
        with quiet_peft():
            adapted = PeftModel.from_pretrained(base, tmp_path / run.adapter, is_trainable=True)
        assert trainable_parameters(adapted) == run.parameters <= result.budget
        assert adapter_ranks(adapted) == run.ranks


def test_a_killed_comparison_repeats_only_what_is_missing(model_folder, data, tmp_path):
    call = (model_folder("gpt2"), data, FEW[::2], protocol(), tmp_path)
    first = compare_lora_targets(*call)
    weights = tmp_path / first.of("circuit")[0].adapter / "adapter_model.safetensors"
    before = weights.read_bytes()
    for path in weights.parent.iterdir():
        path.unlink()
    weights.parent.rmdir()
    (tmp_path / "circuit" / "seed-0" / "training_log.json").unlink()
    (tmp_path / "circuit" / "seed-0" / "result.json").unlink()
    kept = (tmp_path / "standard" / "seed-0" / "result.json").stat().st_mtime_ns
    again = compare_lora_targets(*call)
    assert weights.read_bytes() == before
    assert again.of("circuit")[0].scores == first.of("circuit")[0].scores
    assert (tmp_path / "standard" / "seed-0" / "result.json").stat().st_mtime_ns == kept


def test_parameters_that_cannot_match_are_reported(model_folder, data, tmp_path):
    asked = protocol(replace(SETTINGS, steps=1), rank=1)
    result = compare_lora_targets(
        model_folder("gpt2"), data, (LoraTarget.random(2),), asked, tmp_path
    )
    assert [set(run.ranks.values()) for run in result.runs] == [{2}]
    assert result.parameters("random") / result.budget == pytest.approx(4 / 3)
    assert math.isnan(result.spread("random", lambda means: means.loss).sd)


def test_a_comparison_in_use_is_refused(model_folder, data, tmp_path):
    with (
        working_in(tmp_path, "x"),
        pytest.raises(CircuitsError, match="another process works in this folder"),
    ):
        compare_lora_targets(model_folder("gpt2"), data, FEW[:1], protocol(), tmp_path)


def test_random_layers_are_drawn_for_each_run():
    target = LoraTarget.random(3)
    draws = {target.choose(12, seed, draw) for seed in range(5) for draw in range(4)}
    assert len(draws) > 10
    assert all(len(set(draw)) == 3 and draw == tuple(sorted(draw)) for draw in draws)
    assert target.choose(12, 5) == target.choose(12, 5)
    for seeds in ((0,), (4, 7), (1, 2, 3), tuple(range(9))):
        asked = protocol(seeds=seeds, draws=5)
        drawn = [asked.draws_of(seed, random=True) for seed in seeds]
        assert sum(drawn) == max(5, len(seeds)) and max(drawn) - min(drawn) <= 1
        assert {asked.draws_of(seed, random=False) for seed in seeds} == {1}


def test_refusals(model_folder, data, tmp_path):
    folder = model_folder("gpt2")

    def compare(targets=FEW[2:], settings=SETTINGS, seeds=(0,), out="x", examples=data, **more):
        asked = protocol(settings, seeds, **more)
        compare_lora_targets(folder, examples, targets, asked, tmp_path / out)

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
    with pytest.raises(CircuitsError, match="tuned on validation examples"):
        compare(examples=replace(data, validation=None), learning_rates=(1e-3,))
    settings = replace(SETTINGS, steps=1, warmup_steps=0)
    compare(settings=settings, out="done")
    with pytest.raises(CircuitsError, match=r"holds another run .*examples was"):
        compare(settings=settings, out="done", examples=replace(data, train=data.train[:5]))
    with pytest.raises(CircuitsError, match=r"standard/seed-0: holds another run \(ranks: "):
        compare(targets=(LoraTarget("standard", (1,)),), settings=settings, out="done")
    with pytest.raises(CircuitsError, match=r"learning_rate was 0\.01, now 0\.02"):
        own = (replace(FEW[2], learning_rate=2e-2),)
        compare(targets=own, settings=settings, out="done")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoraTarget("../up"), "a name of letters"),
        (lambda: LoraTarget("none"), "the untrained base"),
        (lambda: LoraTarget("a", (1,), 2), "given or drawn, or maps are ranked"),
        (lambda: LoraTarget("a", ()), "no such layers"),
        (lambda: LoraTarget("a", draw=0), "at least 1"),
        (lambda: LoraTarget("a", full=True, rank=3), "without a LoRA"),
        (lambda: lora_targets(("entropy",), IMPORTANCE, MAPS, 1), "entropy was not measured"),
        (lambda: lora_targets(("complement",), IMPORTANCE, MAPS, 3), "takes all 3 layers"),
    ],
)
def test_invalid_targets_cannot_be_made(make, message):
    with pytest.raises(CircuitsError, match=message):
        make()


@pytest.mark.exhaustive
def test_a_comparison_on_another_device(small_gpt2_folder, data, tmp_path):
    importance = {
        "attention-kl": LayerImportance("a", (1.0, 2.0)),
        "edges": LayerImportance("b", (2.0, 1.0)),
    }
    targets = lora_targets(("circuit", "attention-kl", "random", "full"), importance, MAPS, 1)

    def compare(device):
        call = (small_gpt2_folder, data, targets, protocol(), tmp_path / str(device))
        return compare_lora_targets(*call, device=device)

    with elsewhere():
        found = compare(DEVICE)
    expected = compare("cpu")
    assert found.base.loss == pytest.approx(expected.base.loss, rel=1e-5)
    for one, other in zip(found.runs, expected.runs, strict=True):
        assert one.scores.loss != found.base.loss  # the generator differs: loading draws
        assert one.scores.loss == pytest.approx(other.scores.loss, rel=2e-2)


def test_a_trial_shorter_than_a_checkpoints_step_is_planned():
    training = FinetuneSettings(
        steps=20, learning_rate=1e-3, warmup_steps=8, checkpoint_steps=(15,), validate_every=5
    )
    protocol = LoraProtocol(training=training, learning_rates=(1e-2,), tuning_steps=6)
    (planned,) = planned_trials([LoraTarget.standard()], protocol)
    trial = trial_settings(planned, protocol)
    assert (trial.steps, trial.warmup_steps, trial.validate_every) == (6, 6, 6)
    assert trial.learning_rate == 1e-2 and trial.checkpoint_steps == ()
    assert run_settings(planned, protocol).checkpoint_steps == (15,)
