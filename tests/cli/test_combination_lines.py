"""Lines of `circuits plan`: the flags at their ends are flags of the verbs."""

from dataclasses import fields, replace

import pytest
import torch
import typer.main
from named_job import job_of

from circuits.attribution import METHODS
from circuits.cli.app import app
from circuits.cli.combination_lines import combination_lines, flags
from circuits.options.engine import RayEngine
from circuits.options.model import LoadOptions
from circuits.options.tuning import StepOptions
from circuits.pipeline import load_recipe
from circuits.planning import JOBS, Combination, Devices, Fit, FitSearch, Shape
from circuits.planning.spread import Spread

VERBS = typer.main.get_command(app).commands
BESIDE = {
    "discover": ("--model", "gpt2", "--task", "ioi"),
    "evaluate": ("--scores", "scores"),
    "learn": ("--scores", "scores", "--size", "9"),
    "diff": ("--model", "a", "--base", "b", "--task", "ioi"),
    "finetune": ("--model", "gpt2", "--task", "ioi"),
    "run": (),
}
CPU, ONE, EIGHT = Devices(1, 8 * 10**9, "cpu"), Devices(1, 10**9), Devices(8, 10**9)
PLAIN = Combination(torch.float32, None, False, 4)
TWO = Spread((1, 2), (10**9, 2 * 10**9), (1_234_567_890, 98_765_432))


def parsed(words):
    """What a verb is given by a command line, as Click reads it; nothing is run."""
    verb, *rest = words
    given = VERBS[verb].make_context(verb, [*rest, *BESIDE[verb]]).params
    for kind in (LoadOptions, RayEngine):  # refuses what does not go together
        names = {field.name for field in fields(kind)} & given.keys()
        kind(**{name: given[name] for name in names if given[name] is not None})
    return given


@pytest.mark.parametrize("name", [*METHODS, *JOBS])
@pytest.mark.parametrize(
    ("devices", "one", "spread"),
    [
        (CPU, PLAIN, None),
        (ONE, replace(PLAIN, dtype=torch.bfloat16, quantize="nf4", recompute=True), None),
        (EIGHT, replace(PLAIN, workers=8), None),
        (EIGHT, replace(PLAIN, devices=2), TWO),
        (EIGHT, replace(PLAIN, devices=2, workers=4, quantize="int8"), TWO),
    ],
)
def test_verbs_take_the_flags_for_what_they_say(name, devices, one, spread):
    job = job_of(Shape(4, 32), name)
    if job.cost.trains:  # plain, in this process
        step = StepOptions(accumulation=2, gradient_checkpointing=True, bf16=one.recompute)
        one, spread = replace(PLAIN, step=step), None
    if job.cost.alone:
        one = replace(one, workers=1)
    one = replace(one, recompute=one.recompute and job.cost.recomputes)
    words = flags(job, Fit("nothing", one, 10**9, 1.0, spread), devices)
    given = parsed(words)
    if words[0] == "run":
        overrides = ["batch_size=4", "accumulation=2", "gradient_checkpointing=true"]
        overrides += ["bf16=true"] if one.step.bf16 else []
        expected = [f"lora.{override}" for override in overrides]
        assert (given["recipe"], given["overrides"]) == ("RECIPE", expected)
        section = load_recipe("quickstart", given["overrides"]).lora
        assert section is not None and section.gradient_checkpointing is True
        return
    assert given["batch_size"] == 4
    if job.cost.trains:
        assert (given["accumulation"], given["gradient_checkpointing"]) == (2, True)
        assert given["bf16"] is one.step.bf16
        return
    assert (given["dtype"], given["quantize"]) == (
        str(one.dtype).removeprefix("torch."),
        one.quantize,
    )
    assert given.get("recompute") is (True if one.recompute else None)
    limits = "0=1234MB,1=98765KB" if spread else None
    assert (given["device_map"], given["max_memory"]) == ("auto" if spread else None, limits)
    on_cpu = devices is CPU or (one.workers > 1 and spread is None)
    assert given["device"] == ("cpu" if on_cpu else None)
    if job.cost.alone:
        assert "engine" not in given
        return
    engine = (given["engine"], given["workers"], given["gpus_per_worker"])
    assert engine == (("ray", one.workers, one.devices) if one.workers > 1 else (None, None, None))


def test_a_line_says_what_changes_and_what_it_takes():
    job = job_of(Shape(4, 32))
    fits = (
        Fit("nothing", PLAIN, 900_000_000, 90.0),
        Fit("nf4", replace(PLAIN, quantize="nf4"), 12_340_000_000, 7200.0),
    )
    assert [*combination_lines(job, FitSearch(fits), ONE)] == [
        "  nothing changes but last digits: 900 MB of 1,000 MB, about 90.0 s: discover "
        "--batch-size 4",
        "  weights of 4 bits: scores of another model: 12.34 GB of 1,000 MB, about 2.0 h: discover "
        "--quantize nf4 --batch-size 4",
    ]
    near = FitSearch((), replace(fits[0], bytes=1_250_000_000))
    assert [*combination_lines(job, near, ONE)] == [
        "  nothing fits 1,000 MB: the nearest takes 1,250 MB, 250 MB more (discover --batch-size "
        "4); shorter prompts or larger devices would help"
    ]
