"""The search against a plan of every combination there is."""

import itertools
import math
from dataclasses import replace
from unittest import mock

import pytest
import torch
from conftest import CONFIGS
from named_job import job_of

from circuits.options.tuning import StepOptions
from circuits.planning import Devices, Rates, Shape, combinations, passes, plan
from circuits.planning.combinations import _READING, _STARTING
from circuits.planning.plan import with_slack
from circuits.planning.spread import spreads

N = 3
CONFIG = CONFIGS["gpt2"]()
DTYPES = (torch.float32, torch.bfloat16)
LAUNCH_BOUND = Rates(1e15, 1e15, 1e15, launch=0.1)
WORK_BOUND = Rates(1e6, 1e6, 1e7, launch=1e-9)
CHANGES = {
    "nothing": [(torch.float32, None)],
    "bfloat16": [(torch.bfloat16, None)],
    "int8": [(dtype, "int8") for dtype in DTYPES],
    "nf4": [(dtype, "nf4") for dtype in DTYPES],
}


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    """Passes are counted once for all: both sides take them, and it is most of the time."""
    known = {}

    def count_passes(config, shape, **settings):
        assert config is CONFIG
        key = shape, tuple(settings.items())
        if key not in known:
            known[key] = passes.count_passes(config, shape, **settings)
        return known[key]

    places = (f"circuits.planning.{name}.count_passes" for name in ("plan", "proportion"))
    with mock.patch(next(places), count_passes), mock.patch(next(places), count_passes):
        yield


def rates(bound):
    """A narrow type computes twice as fast."""
    return lambda dtype: replace(bound, matmul=bound.matmul * 4 / dtype.itemsize)


def on_each(made, spread, copies):
    """Bytes on each of several devices, phase by phase, from a plan for one."""
    passes = {"forward pass", "forward and backward pass"}
    layers = sum(spread.layers)
    for device, weights in enumerate(spread.weights):
        fullest = 0
        for parts in made.phases.values():
            size = sum(parts[name] for name in parts if device == 0 or name in passes)
            if "forward and backward pass" in parts:
                elsewhere = made.traced.step.saved * (layers - spread.layers[device]) / layers
                size -= math.floor(elsewhere)
            fullest = max(fullest, size)
        yield copies * weights + with_slack(fullest, "cuda")


def every(job, devices, bound):
    """All combinations of a dtype and quantisation: time, bytes on the fullest device, settings."""
    found = []
    again = (False, True) if job.cost.recomputes else (False,)
    for recompute, batch in itertools.product(again, range(1, job.n + 1)):
        made = plan(CONFIG, replace(job.of(batch), recompute=recompute))
        number = math.ceil(job.n / batch)
        one = made.seconds(bound(job.shape.dtype)) / number
        for each in range(1, devices.count + 1):
            for workers in range(1, devices.count // each + 1):
                held = [made.total]
                if each > 1:
                    copies = job.cost.models * (1 + (workers > 1))
                    there = spreads(made.traced.parts, each)
                    held = [max(on_each(made, one, copies)) for one in there]
                seconds = math.ceil(number / workers) * one
                if workers > 1:
                    seconds += _STARTING + job.cost.models * made.traced.weights / _READING
                found += [(seconds, size, recompute, batch, each, workers) for size in held]
    return found


@pytest.fixture(scope="module")
def grids():
    """Everything there is, by method, bound, devices, dtype and quantisation; made when asked."""
    made = {}

    def grid(name, bound, count):
        key = name, bound, count
        if key not in made:
            devices = Devices(count, 1)
            job = job_of(Shape(1, 32, device="cuda"), name, n=N)
            variants = itertools.product(DTYPES, (None, "int8", "nf4"))
            made[key] = {
                (dtype, kind): every(
                    replace(job, quantize=kind, shape=replace(job.shape, dtype=dtype)),
                    devices,
                    rates(bound),
                )
                for dtype, kind in variants
            }
        return made[key]

    return grid


@pytest.mark.parametrize("bound", [LAUNCH_BOUND, WORK_BOUND], ids=["launches", "work"])
@pytest.mark.parametrize(
    ("name", "count"), [("eap-ig", 1), ("eap-ig", 4), ("evaluate", 2), ("diff", 4)]
)
@pytest.mark.exhaustive_but("eap-ig-4-launches", "diff-4-work")
def test_the_search_finds_what_trying_everything_finds(grids, name, count, bound):
    grid = grids(name, bound, count)
    job = job_of(Shape(1, 32, device="cuda"), name, n=N)
    sizes = sorted(size for found in grid.values() for _, size, *_ in found)
    shares = (0, 0.02, 0.2, 0.5, 0.8)
    limits = [sizes[0] - 1, *(sizes[int(share * len(sizes))] for share in shares), sizes[-1]]
    wins = set()
    for limit in limits:
        found = combinations(CONFIG, job, Devices(count, limit), rates(bound))
        told = {fit.changes: fit for fit in found.fits}
        expected = {}
        for change, variants in CHANGES.items():
            for variant in variants:
                if fitting := [one for one in grid[variant] if one[1] <= limit]:
                    expected[change] = min(fitting)[0], variant
                    break
        assert told.keys() == expected.keys()
        for change, (seconds, variant) in expected.items():
            fit, one = told[change], told[change].combination
            assert f"{fit.seconds:.3g}" == f"{seconds:.3g}"
            assert (one.dtype, one.quantize) == variant
            settings = (one.recompute, one.batch, one.devices, one.workers)
            same = [made for made in grid[variant] if made[2:] == settings]
            assert fit.bytes <= limit
            assert fit.bytes == pytest.approx(min(made[1] for made in same), rel=1e-3)
            wins.add(settings)
        if not expected:
            assert found.nearest.bytes == pytest.approx(sizes[0], rel=1e-3)
    assert len(wins) > 1


@pytest.mark.parametrize("bound", [LAUNCH_BOUND, WORK_BOUND], ids=["launches", "work"])
def test_more_memory_is_never_slower(bound):
    job = job_of(Shape(1, 32, device="cuda"), n=N)
    before: dict[str, float] = {}
    for limit in (1_000_000, 1_500_000, 2_500_000, 5_000_000, 20_000_000, 10**9):
        found = combinations(CONFIG, job, Devices(3, limit), rates(bound))
        now = {fit.changes: fit.rank[0] for fit in found.fits}
        assert now.keys() >= before.keys()
        assert all(now[change] <= before[change] for change in before)
        before = now
    assert len(before) == 4


def test_what_is_asked_for_is_no_change():
    shape = Shape(1, 32, device="cuda", dtype=torch.bfloat16)
    job, plenty = job_of(shape, n=4), Devices(1, 10**10)
    found = combinations(CONFIG, job, plenty, rates(LAUNCH_BOUND), batch=2, recompute=True)
    assert [fit.changes for fit in found.fits] == ["nothing", "int8", "nf4"]
    for fit in found.fits:
        one = fit.combination
        assert (one.dtype, one.batch, one.recompute) == (torch.bfloat16, 2, True)
    asked = replace(job, quantize="nf4")
    (only,) = combinations(CONFIG, asked, plenty, rates(WORK_BOUND)).fits
    assert only.changes == "nothing" and only.combination.quantize == "nf4"


def of_step(job, **step):
    """The plan of a training whose step is run in this way."""
    return plan(CONFIG, replace(job, step=StepOptions(**step)))


@pytest.mark.parametrize("name", ["finetune", "lora"])
@pytest.mark.exhaustive_but("lora")
def test_training_keeps_its_step_and_runs_it_in_pieces(name):
    job = job_of(Shape(8, 64, device="cuda"), name, steps=3)
    whole = of_step(job)
    fit, narrow = combinations(CONFIG, job, Devices(4, whole.total), rates(WORK_BOUND)).fits
    assert fit.changes == "nothing" and fit.combination.step == StepOptions()
    assert fit.combination.workers == 1 and fit.bytes == whole.total
    assert fit.seconds == pytest.approx(whole.seconds(WORK_BOUND))
    assert narrow.changes == "products" and narrow.combination.step == StepOptions(bf16=True)

    ways = {
        (again, pieces): of_step(job, accumulation=pieces, gradient_checkpointing=again)
        for again in (False, True)
        for pieces in (1, 2, 4, 8)
    }
    sizes = sorted({made.total for made in ways.values()})
    chosen = set()
    for limit in sizes:
        fitting = {way: made for way, made in ways.items() if made.total <= limit}
        fastest = min(made.seconds(LAUNCH_BOUND) for made in fitting.values())
        (fit, *_) = combinations(CONFIG, job, Devices(1, limit), rates(LAUNCH_BOUND)).fits
        step = fit.combination.step
        assert fit.changes == "nothing" and fit.combination.batch == 8
        assert fit.bytes == ways[step.gradient_checkpointing, step.accumulation].total <= limit
        assert f"{fit.seconds:.3g}" == f"{fastest:.3g}"
        chosen.add(step)
    assert len(chosen) > 2
    asked = replace(job, step=StepOptions(accumulation=4, bf16=True))
    (kept,) = combinations(CONFIG, asked, Devices(1, 10**9), rates(LAUNCH_BOUND)).fits
    assert kept.combination.step == asked.step
    none = combinations(CONFIG, asked, Devices(1, 1000), rates(LAUNCH_BOUND))
    assert none.fits == () and none.nearest.combination.step.bf16
