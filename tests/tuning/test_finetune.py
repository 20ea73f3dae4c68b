"""Fine-tuning: checkpoints, log, early stopping, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from circuits.errors import CircuitsError
from circuits.options.tuning import FinetuneSettings
from circuits.runtime.files import working_in
from circuits.tuning.finetune import finetune
from circuits.tuning.loss import score_targets
from circuits.tuning.targets import lora_config, wrap
from circuits.tuning.training_log import TrainingLog

SHORT = FinetuneSettings(
    steps=6, learning_rate=1e-3, warmup_steps=2, batch_size=4, checkpoint_steps=(3,)
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps 0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"warmup_steps": 7, "steps": 6}, "warmup_steps 7"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"clip": 0.0}, "clip"),
        ({"seed": -1}, "seed"),
        ({"patience": 0}, "patience"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"checkpoint_steps": (0, 5)}, r"checkpoint_steps \[0\].*base model"),
        ({"checkpoint_steps": (301,)}, "checkpoint_steps"),
        ({"save_state_every": 0}, "save_state_every"),
        ({"accumulation": 0}, "accumulation 0"),
        ({"log_checkpoints": 0}, "log_checkpoints 0"),
    ],
)
def test_invalid_settings_cannot_be_made(change, message):
    with pytest.raises(CircuitsError, match=message):
        FinetuneSettings(**change)


def test_checkpoint_steps_are_sorted_and_each_is_there_once():
    assert FinetuneSettings(checkpoint_steps=(200, 100, 100)).checkpoint_steps == (100, 200)


def test_learning_rate_rises_then_falls_to_nearly_nothing():
    settings = FinetuneSettings(steps=100, learning_rate=1.0, warmup_steps=10)
    rates = [settings.rate(step) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-3
    assert FinetuneSettings(steps=3, warmup_steps=3).rate(3) == FinetuneSettings().learning_rate


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_checkpoints_log_and_weights(name, load, tokenizer, make_examples, tmp_path):
    model, examples = load(name), make_examples(9)
    before = score_targets(model, examples).mean_loss
    result = finetune(
        model,
        examples,
        tmp_path / "run",
        settings=replace(SHORT, validate_every=2),
        validation=examples,
        tokenizer=tokenizer,
        progress=False,
    )
    assert list(result.checkpoints) == [3, 6]
    assert result.last == tmp_path / "run" / "step-6"
    assert [entry.step for entry in result.log.steps] == [1, 2, 3, 4, 5, 6]
    assert [entry.step for entry in result.log.validation] == [0, 2, 4, 6]
    assert result.log.validation[0].loss == pytest.approx(before)
    assert result.log.validation[-1].loss < before
    assert result.log.best.step == 6
    assert not result.log.stopped_early
    log = TrainingLog.load(tmp_path / "run" / "training_log.json")
    assert log.finished and log == result.log
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        ".lock",
        "run.json",
        "training_log.json",
        "step-3",
        "step-6",
    }
    saved = AutoModelForCausalLM.from_pretrained(result.last, dtype="auto")
    assert saved.dtype == torch.float32
    assert score_targets(saved, examples) == score_targets(model, examples)
    assert len(AutoTokenizer.from_pretrained(result.last)) == len(tokenizer)
    assert not model.training


def test_a_finished_run_is_loaded_not_repeated(load, make_examples, tmp_path, monkeypatch):
    examples = make_examples(9)
    first = finetune(load("gpt2"), examples, tmp_path, settings=SHORT, progress=False)
    monkeypatch.setattr("circuits.tuning.finetune.TargetTrainer", None)
    model = load("gpt2")
    again = finetune(model, examples, tmp_path, settings=SHORT, progress=False)
    assert again == first
    saved = AutoModelForCausalLM.from_pretrained(first.last, dtype="auto")
    assert torch.equal(model.lm_head.weight, saved.lm_head.weight)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    kind, load, make_examples, tmp_path, monkeypatch
):
    """Of the weights, with what dropout drew; processes that are killed are exhaustive."""
    examples, step = make_examples(9), torch.optim.AdamW.step
    settings = replace(SHORT, save_state_every=2, validate_every=2)

    def trained(out, most=999):
        model, taken = load("gpt2"), []
        if kind == "lora":
            torch.manual_seed(0)
            model = wrap(model, lora_config([1], model, rank=2, dropout=0.1))

        def counted(*given, **named):
            if len(taken) == most:
                raise KeyboardInterrupt
            taken.append(step(*given, **named))

        monkeypatch.setattr(torch.optim.AdamW, "step", counted)
        given = {"settings": settings, "validation": examples[:3], "progress": False}
        finetune(model, examples, tmp_path / out, **given)
        return len(taken)

    assert trained("whole") == 6
    with pytest.raises(KeyboardInterrupt):
        trained("stopped", most=5)
    assert trained("stopped") == 2, "from the state after step 4 on"
    weights = sorted((tmp_path / "whole").glob("step-*/*.safetensors"))
    assert len(weights) == 2 and weights[0].read_bytes() != weights[1].read_bytes()
    for file in weights:
        other = tmp_path / "stopped" / file.relative_to(tmp_path / "whole")
        assert other.read_bytes() == file.read_bytes()


def test_half_precision_is_trained_and_saved_in_float32(load, make_examples, tmp_path):
    result = finetune(
        load("gpt2").half(), make_examples(4), tmp_path, settings=SHORT, progress=False
    )
    assert AutoModelForCausalLM.from_pretrained(result.last, dtype="auto").dtype == torch.float32


def test_the_callers_random_numbers_are_left_alone(load, make_examples, tmp_path):
    model = load("gpt2")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    finetune(model, make_examples(4), tmp_path, settings=SHORT, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_early_stopping(load, make_examples, tmp_path):
    settings = FinetuneSettings(
        steps=200,
        learning_rate=1e-2,
        warmup_steps=0,
        batch_size=4,
        checkpoint_steps=(150,),
        validate_every=5,
        patience=2,
    )
    result = finetune(
        load("gpt2"),
        make_examples(8),
        tmp_path,
        settings=settings,
        validation=make_examples(8, seed=1),  # other random tokens: nothing to generalise to
        progress=False,
    )
    assert result.log.stopped_early
    stopped = len(result.log.steps)
    assert stopped < 150
    assert list(result.checkpoints) == [stopped - 10, stopped]
    losses = [entry.loss for entry in result.log.validation]
    assert losses.index(min(losses)) == len(losses) - 3
    assert result.log.best.step == stopped - 10
    assert result.best == tmp_path / f"step-{stopped - 10}"
    best = AutoModelForCausalLM.from_pretrained(result.best, dtype=torch.float32)
    again = score_targets(best, make_examples(8, seed=1), batch_size=4)
    assert again.mean_loss == pytest.approx(min(losses), rel=1e-6)
    settings = replace(settings, learning_rate=1.0)  # worse from the first step on
    worse = finetune(
        load("gpt2"),
        make_examples(8),
        tmp_path / "worse",
        settings=settings,
        validation=make_examples(8, seed=1),
        progress=False,
    )
    assert (worse.log.best.step, worse.best) == (0, None)
    assert list(worse.checkpoints) == [len(worse.log.steps)]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"settings": replace(SHORT, learning_rate=2e-3)}, "learning_rate was 0.001, now 0.002"),
        ({"seed": 4}, "examples was"),
        ({"model": "llama"}, "model was"),
    ],
)
def test_a_folder_of_another_run_is_refused(other, named, load, make_examples, tmp_path):
    finetune(load("gpt2"), make_examples(4), tmp_path, settings=SHORT, progress=False)
    with pytest.raises(CircuitsError, match=rf"{tmp_path}: holds another run .*{named}"):
        finetune(
            load(other.get("model", "gpt2")),
            make_examples(4, seed=other.get("seed", 0)),
            tmp_path,
            settings=other.get("settings", SHORT),
            progress=False,
        )


def test_how_often_the_state_is_saved_makes_no_other_run(load, make_examples, tmp_path):
    finetune(load("gpt2"), make_examples(4), tmp_path, settings=SHORT, progress=False)
    other = replace(SHORT, save_state_every=1)
    finetune(load("gpt2"), make_examples(4), tmp_path, settings=other, progress=False)


def test_folders_that_are_no_checkpoints_are_left_alone(load, make_examples, tmp_path):
    for name in ("step-10-backup", ".git.old", ".cache.d"):
        (tmp_path / name).mkdir()
    result = finetune(load("gpt2"), make_examples(4), tmp_path, settings=SHORT, progress=False)
    assert list(result.checkpoints) == [*SHORT.checkpoint_steps, SHORT.steps]
    assert all((tmp_path / name).is_dir() for name in ("step-10-backup", ".git.old", ".cache.d"))


def test_a_folder_that_another_process_works_in_is_refused(load, make_examples, tmp_path):
    call = {"settings": SHORT, "progress": False}
    with (
        working_in(tmp_path, "x"),
        pytest.raises(CircuitsError, match="another process works in this folder"),
    ):
        finetune(load("gpt2"), make_examples(4), tmp_path, **call)
    finetune(load("gpt2"), make_examples(4), tmp_path, **call)


def test_refusals(load, make_examples, tmp_path):
    examples = make_examples(4)
    with pytest.raises(CircuitsError, match="patience needs validation"):
        settings = replace(SHORT, patience=1)
        finetune(load("gpt2"), examples, tmp_path / "a", settings=settings, progress=False)
    with pytest.raises(CircuitsError, match="nothing to train"):
        frozen = load("gpt2").requires_grad_(False)
        finetune(frozen, examples, tmp_path / "b", settings=SHORT, progress=False)
    with pytest.raises(CircuitsError, match="t5 is an encoder-decoder; only causal models are"):
        model = make_model("t5")
        finetune(model, examples, tmp_path / "e", settings=SHORT, progress=False)
    assert not any(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(CircuitsError, match="a file stands"):
        finetune(load("gpt2"), examples, tmp_path / "file", settings=SHORT, progress=False)
    (tmp_path / "c" / "step-3").mkdir(parents=True)
    with pytest.raises(CircuitsError, match=r"checkpoints but no run\.json"):
        finetune(load("gpt2"), examples, tmp_path / "c", settings=SHORT, progress=False)


def test_a_loss_that_is_no_number_stops_the_run_before_it_saves(load, make_examples, tmp_path):
    model = load("gpt2")
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    with pytest.raises(CircuitsError, match="training loss at step 1 is nan"):
        finetune(model, make_examples(4), tmp_path, settings=SHORT, progress=False)
    assert not list(tmp_path.glob("step-*"))
