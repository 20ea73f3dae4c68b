"""The verb `circuits plan`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.flags import Without
from circuits.errors import CircuitsError
from circuits.options.model import ModelOptions
from circuits.options.run import RecomputeOptions
from circuits.options.tuning import StepOptions, TrainingOptions

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from circuits.planning import Devices, Job, Plan, Rates, Shape
    from tasks.pairs import PairSet


def plan(
    *,
    model: Annotated[ModelOptions, Without("device_map", "max_memory")],
    length: Annotated[
        int | None, typer.Option(help="Tokens of the longest prompt, answer included.", min=1)
    ] = None,
    answer_positions: Annotated[
        int, typer.Option("--answer-tokens", help="Answer tokens of a prompt.", min=1)
    ] = 1,
    shared: Annotated[
        int,
        typer.Option(
            "--shared-prefix",
            help="Tokens at the start that clean and corrupted prompts share.",
            min=0,
        ),
    ] = 0,
    task: Annotated[
        str | None, typer.Option(help="Instead of --length: a task whose prompts are measured.")
    ] = None,
    source: use.DataOptions,
    job_name: Annotated[
        str,
        typer.Option("--job", help="What is done: {jobs}."),
    ] = "eap-ig",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Points on the path (eap-ig: 5), epochs (mask: 40), or optimizer steps "
            "(finetune: 300)."
        ),
    ] = None,
    layers: RecomputeOptions,
    training: StepOptions,
    has: Annotated[
        str | None,
        typer.Option("--memory", help="What the device has, as 24GB (default: measured)."),
    ] = None,
    device_spec: Annotated[
        str | None,
        typer.Option(
            "--devices",
            help="Instead of --device and --memory: what there is, as '24GB x 2', 80GB or cpu. "
            "Tells the cheapest settings that fit.",
        ),
    ] = None,
    run: use.Run,
) -> None:
    """Tell memory and time of a job before anything is loaded.

    From config.json alone; no weight is read. Where the job does not fit, and with --devices, tells
    the cheapest settings with which it does, each with its flags. Ends with status 1 where the job
    does not fit, or with --devices where no settings help.

    Example: circuits plan --model gpt2 --length 1024 --n 100 --device cpu --memory 8GB
    """
    from dataclasses import replace

    import torch

    from circuits.attribution import cost_of
    from circuits.cli.combination_lines import combination_lines
    from circuits.models.checkpoints import as_dtype, load_config
    from circuits.planning import (
        Job,
        Shape,
        combinations,
        guessed_rates,
        largest_batch,
        measure_rates,
    )
    from circuits.planning import plan as planned

    use.silence_libraries()
    n, (target, devices) = source.n, _devices(device_spec, has, model.device)
    config = load_config(model.model)
    if task is not None and length is None:
        shape, n = _measured(task, model.tokenizer or model.model, config, source, run.seed)
    elif length is not None and task is None:
        shape = Shape(1, length, answer_positions, shared=shared)
    else:
        raise CircuitsError("say how long the prompts are: --length 512, or --task NAME")
    shape = replace(shape, dtype=as_dtype(model.dtype), device=devices.kind)
    job = Job(
        shape,
        cost_of(job_name),
        steps,
        n or 100,
        bool(layers.recompute),
        model.quantize,
        training,
    )
    plan_of_one = planned(config, job, overhead=devices.overhead)
    largest = largest_batch(config, job, devices.bytes_each - plan_of_one.fixed_bytes)
    usual_batch = _usual(job)  # training is asked for with so many, whether they fit or not
    job = job.of(
        run.batch_size or (usual_batch if job.cost.trains else max(1, min(usual_batch, largest)))
    )
    job_plan = planned(config, job, overhead=devices.overhead)
    _show(model.model, job_plan, devices.bytes_each)
    measurable = devices.kind == "cpu" or torch.cuda.is_available()

    @cache
    def rates(dtype: torch.dtype) -> Rates:
        if not measurable:
            return guessed_rates(dtype)
        return measure_rates(job_plan.sizes, shape.length, target, dtype)

    if job_plan.total <= devices.bytes_each:
        room = f", with room for batches of {largest}" if largest > job.shape.batch else ""
        typer.echo(f"fits {target}{room}")
        if measurable:
            _show_time(job_plan, rates(job.multiplied_in))
        elif device_spec is None:
            typer.echo(f"time not told: no {target} here to measure")
        if device_spec is None:
            return
    else:
        typer.echo(f"does not fit: {job_plan.total / devices.bytes_each:.2f} x what {target} has")
    fitting = combinations(
        config, job, devices, rates, batch=run.batch_size, recompute=layers.recompute
    )
    guess = "" if measurable else "; times are a guess, no such device is here to measure"
    typer.echo(f"the cheapest settings on {device_spec or target}{guess}:")
    for line in combination_lines(job, fitting, devices):
        typer.echo(line)
    if device_spec is None or not fitting.fits:
        raise typer.Exit(1)


def _devices(
    spec: str | None, memory: str | None, device: str | None
) -> tuple[torch.device, Devices]:
    """What is planned for, and where that is measured if it is here."""
    import torch

    from circuits.models.checkpoints import named_device
    from circuits.planning import Devices, available_memory, parse_bytes, resident_bytes

    if spec is not None:
        if memory is not None or device is not None:
            raise CircuitsError("--devices says what --device and --memory say; leave those out")
        devices = Devices.parse(spec)
        return torch.device(devices.kind), devices
    target = named_device(device)
    overhead = resident_bytes() if target.type == "cpu" else 0
    # This process holds the overhead already.
    available = available_memory(target) + overhead if memory is None else parse_bytes(memory)
    return target, Devices(1, available, target.type, overhead)


def _measured(
    task: str,
    tokenizer_source: str,
    config: PreTrainedConfig,
    source: use.DataOptions,
    seed: int,
) -> tuple[Shape, int]:
    """The shape of a task's pairs, and their number."""
    from circuits.models.checkpoints import tokenizer_of
    from circuits.models.context_length import context_window, longrope_window
    from circuits.models.inputs import shared_length
    from circuits.planning import Shape

    loaded = use.load_task(task, source)
    try:
        tokenizer = tokenizer_of(tokenizer_source)
    except CircuitsError as error:
        raise CircuitsError(
            f"no tokenizer to measure prompts with; give --length ({error})"
        ) from error
    make: Callable[..., PairSet] = loaded.pairs  # a task that reads rows takes n=None too
    pairs = make(
        tokenizer,
        n=source.n or (None if source.data else 100),
        split="all" if source.data else "validation",
        seed=seed,
        n_ctx=context_window(config),
    )
    lengths = {len(pair) for pair in pairs}
    use.say_skipped(pairs.skipped, len(pairs))
    answer_positions = max(len(pair.answer) for pair in pairs)
    shared = shared_length(pairs.batch(list(range(len(pairs)))), longrope_window(config))
    return Shape(1, max(lengths), answer_positions, padded=len(lengths) > 1, shared=shared), len(
        pairs
    )


def _usual(job: Job) -> int:
    """Pairs at a time, if they fit, where nobody says."""
    from circuits.runtime.batching import usual_batch_size

    if job.cost.trains:
        return TrainingOptions.batch_size
    return usual_batch_size(job.shape.length, job.n, job.shape.device, job.cost.tokens)


def _show(model: str, job_plan: Plan, available: int) -> None:
    from circuits.format import memory

    job, traced = job_plan.job, job_plan.traced
    unit = "epochs" if job.cost.alone else "steps"
    steps = f", {job.passes} {unit}" if job.cost.counted else ""
    workload = "examples" if job.cost.trains else f"{job.n} pairs"
    dtype = str(job.shape.dtype).removeprefix("torch.")
    if job.quantize is not None:
        dtype = f"{dtype}, weights of layers in {job.quantize}"
    typer.echo(
        f"{model}: {traced.parameters / 1e6:,.1f} M parameters, {job_plan.sizes.layout.summary}, "
        f"{job_plan.sizes.layout.n_edges:,} edges"
    )
    again = job.recompute or job.step.gradient_checkpointing
    name = f"{job.cost.name}{steps}" + (", layers run again" if again else "")
    at_once = f"{job.shape.batch} at a time"
    if job.step.accumulation > 1:
        at_once += f" in {job.step.accumulation} pieces"
    if job.step.bf16:
        dtype = f"{dtype}, products in bfloat16"
    typer.echo(f"{name}: {workload} of {job.shape.length} tokens, {at_once}, {dtype}\n")
    parts = job_plan.phases[job_plan.fullest]
    rows = [*job_plan.lasting.items(), *parts.items()]
    rows.append(("the allocator's slack", job_plan.working - sum(parts.values())))
    if job_plan.overhead:
        rows.append(("Python and libraries, or CUDA itself", job_plan.overhead))
    for name, size in rows:
        typer.echo(f"{name:<40}{memory(size):>10}")
    typer.echo(
        f"{'peak: ' + job_plan.fullest:<40}{memory(job_plan.total):>10} of {memory(available)}"
    )


def _show_time(job_plan: Plan, rates: Rates) -> None:
    from circuits.format import duration

    giga = [f"{rate / 1e9:,.0f}" for rate in (rates.matmul, rates.attention, rates.moved)]
    typer.echo(
        f"about {duration(job_plan.seconds(rates))} (matrix products at {giga[0]} GFLOP/s, "
        f"attention at {giga[1]}, other operations at {giga[2]} GB/s, none in less than "
        f"{rates.launch * 1e6:,.1f} us)"
    )
