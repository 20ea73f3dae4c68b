"""`circuits plan`: verdicts, and that no weight is needed."""

import json

import pytest
from cli.inside import circuits
from cli.test_cli import refused
from cli.test_combination_lines import parsed


@pytest.fixture
def config_alone(model_folder, tmp_path):
    """A model folder with config.json and nothing else."""
    folder = tmp_path / "config-alone"
    folder.mkdir()
    (folder / "config.json").write_text((model_folder("llama") / "config.json").read_text())
    return folder


def test_fits_and_says_how_many(config_alone):
    done = circuits(
        *("plan", "--model", config_alone, "--length", 32, "--n", 6, "--device", "cpu"),
        *("--memory", "64GB", "--steps", 3),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith(": 0.0 M parameters, 3 layers, 4 heads, 2 KV heads, 190 edges")
    assert lines[1] == "eap-ig, 3 steps: 6 pairs of 32 tokens, 6 at a time, float32"
    assert "fits cpu" in lines
    assert any(line.startswith("weights ") for line in lines)
    assert lines[-1].startswith("about ") and "matrix products at" in lines[-1]


def test_batches_are_those_of_the_verbs(config_alone):
    arguments = ("plan", "--model", config_alone, "--length", 64, "--n", 5000, "--device", "cpu")
    done = circuits(*arguments, "--memory", "64GB")
    assert done.returncode == 0, done.stderr
    assert "eap-ig, 5 steps: 5000 pairs of 64 tokens, 32 at a time, float32" in done.stdout
    assert "fits cpu, with room for batches of 5000" in done.stdout
    done = circuits(*arguments, "--memory", "64GB", "--job", "finetune")
    assert "finetune, 300 steps: examples of 64 tokens, 32 at a time, float32" in done.stdout
    assert "moments of the optimizer" in done.stdout


def test_does_not_fit_and_says_what_would(config_alone):
    done = circuits(
        *("plan", "--model", config_alone, "--length", 64, "--batch-size", 400),
        *("--n", 400, "--device", "cuda:7", "--memory", "100MB"),
    )
    assert done.returncode == 1, done.stderr
    head, _, found = done.stdout.partition("the cheapest settings on cuda:7; times are a guess, ")
    assert "does not fit: " in head and found.startswith("no such device is here to measure:\n")
    lines = found.splitlines()[1:]
    assert lines[0].startswith("  nothing changes but last digits: ")
    for line in lines:
        assert 1 <= parsed(line.rpartition(": ")[2].split())["batch_size"] < 400


def test_devices_that_are_named_get_the_cheapest_settings(config_alone):
    arguments = ("plan", "--model", config_alone, "--length", 64, "--n", 20, "--steps", 2)
    done = circuits(*arguments, "--devices", "2GB x 2")
    assert done.returncode == 0, done.stderr
    head, _, lines = done.stdout.partition(
        "the cheapest settings on 2GB x 2; times are a guess, no such device is here to measure:\n"
    )
    assert "fits cuda" in head and "time not told" not in head
    found = [line.rpartition(": ") for line in lines.splitlines()]
    assert 1 <= len(found) <= 4
    assert [line.partition(": ")[0].strip() for line in lines.splitlines()][:2] == [
        "nothing changes but last digits",
        "numbers of 8 significant bits",
    ]
    for before, _, words in found:
        assert " of 2,000 MB, about " in before
        assert parsed(words.split())["batch_size"] >= 1
    done = circuits(*arguments, "--devices", "500KB", "--batch-size", 1)
    assert done.returncode == 1 and "  nothing fits 0 MB: the nearest takes 5" in done.stdout


def test_training_that_does_not_fit_runs_its_step_in_pieces(config_alone):
    arguments = ("plan", "--model", config_alone, "--length", 64, "--job", "finetune")
    done = circuits(*arguments, "--devices", "520MB")
    assert done.returncode == 0, done.stderr
    line, narrow = done.stdout.partition("to measure:\n")[2].splitlines()
    assert line.startswith("  nothing changes but last digits: ")
    flags = parsed(line.rpartition(": ")[2].split())
    assert flags["batch_size"] == 32
    assert flags["accumulation"] or flags["gradient_checkpointing"]
    assert narrow.startswith("  products of 8 significant bits, as mixed precision has them: ")
    assert parsed(narrow.rpartition(": ")[2].split())["bf16"] is True


def test_how_a_step_is_run_is_planned(config_alone):
    arguments = ("plan", "--model", config_alone, "--length", 64, "--job", "finetune")
    arguments += ("--device", "cuda:7", "--memory", "24GB")
    peaks = []
    for flags in ((), ("--accumulation", 8), ("--accumulation", 8, "--gradient-checkpointing")):
        done = circuits(*arguments, *flags)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout.partition("peak: ")[2].split(" MB")[0].split()[-1]))
    assert peaks[0] > peaks[1] > peaks[2]
    assert "layers run again: examples of 64 tokens, 32 at a time in 8 pieces" in done.stdout
    done = circuits(*arguments, "--bf16")
    assert "32 at a time, float32, products in bfloat16" in done.stdout
    refused(
        circuits("plan", "--model", config_alone, "--length", 8, "--device", "cpu", "--bf16"),
        "eap-ig trains nothing; leave accumulation, gradient_checkpointing and bf16 out",
    )


def test_recomputation_is_planned(config_alone):
    arguments = ("plan", "--model", config_alone, "--length", 64, "--n", 500, "--device", "cuda:7")
    arguments += ("--batch-size", 500)
    peaks = []
    for flag in ((), ("--recompute",)):
        done = circuits(*arguments, "--memory", "24GB", *flag)
        assert done.returncode == 0, done.stderr
        assert (", layers run again: 500 pairs" in done.stdout) == bool(flag)
        peaks.append(float(done.stdout.partition("peak: ")[2].split(" MB")[0].split()[-1]))
    assert peaks[1] < peaks[0]
    arguments += ("--memory", "24GB", "--recompute")
    refused(circuits(*arguments, "--job", "exact"), "exact keeps nothing for a")


def test_a_shared_prefix_saves_memory_and_answers_take_some(config_alone):
    arguments = ("plan", "--model", config_alone, "--length", 64, "--n", 500, "--device", "cuda:7")
    arguments += ("--batch-size", 500, "--memory", "24GB")
    peaks = []
    for flags in (("--shared-prefix", 32), (), ("--answer-tokens", 16)):
        done = circuits(*arguments, *flags)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout.partition("peak: ")[2].split(" MB")[0].split()[-1]))
    assert peaks == sorted(set(peaks))


def test_quantised_weights_are_planned(config_alone):
    arguments = ("plan", "--model", config_alone, "--length", 32, "--device", "cpu")
    done = circuits(*arguments, "--memory", "24GB", "--quantize", "nf4")
    assert done.returncode == 0 and "float32, weights of layers in nf4" in done.stdout, done.stderr
    done = circuits(*arguments, "--quantize", "int8", "--job", "finetune")
    refused(done, "finetune trains plain weights; leave quantize out")


def test_a_device_that_is_not_here_is_planned_from_its_memory(config_alone):
    arguments = ("plan", "--model", config_alone, "--length", 32, "--device", "cuda:7")
    refused(circuits(*arguments), "cuda:7: no such device here; say its memory with --memory 24GB")
    done = circuits(*arguments, "--memory", "24GB", "--dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    assert "fits cuda:7" in done.stdout and "Python and libraries" not in done.stdout


def test_prompts_of_a_task_are_measured():
    done = circuits("plan", "--model", "newsroom-gpt2", "--task", "newsroom", "--n", 5)
    assert done.returncode == 0, done.stderr
    assert "5 pairs of " in done.stdout and "5 at a time" in done.stdout


def test_an_adapter_is_planned_as_its_base(config_alone, tmp_path):
    (tmp_path / "adapter").mkdir()
    record = {"base_model_name_or_path": str(config_alone)}
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(record))
    done = circuits("plan", "--model", tmp_path / "adapter", "--length", 32, "--memory", "9GB")
    assert done.returncode == 0, done.stderr


def test_what_is_no_plain_decoder_is_refused_with_the_reason(model_folder, tmp_path):
    arguments = ("--length", 8, "--device", "cpu")
    refused(
        circuits("plan", "--model", model_folder("t5"), *arguments),
        "T5Config: encoder-decoder models are not planned, since",
    )
    refused(
        circuits("plan", "--model", model_folder("mixtral"), *arguments),
        "MixtralForCausalLM: mixture-of-experts layers are not supported",
    )
    (tmp_path / "adapter_config.json").write_text("{}")
    refused(circuits("plan", "--model", tmp_path, *arguments), "the adapter does not name its base")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say how long the prompts are"),
        (["--length", 8, "--task", "newsroom"], "say how long the prompts are"),
        (["--length", 65], "65 tokens, but the model's context window holds 64"),
        (["--length", 8, "--memory", "much"], "'much' is no amount of memory"),
        (["--length", 8, "--devices", "1GB"], "--devices says what --device and --memory say"),
        (["--length", 8, "--job", "luck"], "no plan for 'luck'; known: eap-ig"),
        (["--length", 8, "--job", "eap", "--steps", 2], "eap takes no number of steps"),
        (["--length", 8, "--device", "gpu0"], "unknown device 'gpu0'; try cpu, cuda or cuda:0"),
        (["--length", 8, "--device", "mps"], "mps: its memory is not known; say it with --memory"),
        (["--length", 8, "--dtype", "int3"], "unknown dtype 'int3'; known: float32"),
        (["--length", 8, "--model", "/no/folder"], "/no/folder: no such model folder"),
        (["--task", "newsroom"], "no tokenizer to measure prompts with"),
    ],
)
def test_bad_input_is_one_line(arguments, message, config_alone):
    refused(circuits("plan", "--model", config_alone, "--device", "cpu", *arguments), message)
