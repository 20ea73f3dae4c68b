"""The verb `circuits plan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.flags import Without
from circuits.errors import CircuitsError
from circuits.options.model import ModelOptions
from circuits.options.run import RecomputeOptions
from circuits.options.tuning import TrainingOptions

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from circuits.planning import Job, Plan, Rates, Shape
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
        typer.Option(help="Points on the path (eap-ig: 5), or optimizer steps (finetune: 300)."),
    ] = None,
    layers: RecomputeOptions,
    memory: Annotated[
        str | None, typer.Option(help="What the device has, as 24GB (default: measured).")
    ] = None,
    run: use.Run,
) -> None:
    """Tell memory and time of a job before anything is loaded.

    From config.json alone; no weight is read. Ends with status 1 where the job does not fit.

    Example: circuits plan --model gpt2 --length 1024 --n 100 --device cpu --memory 8GB
    """
    from dataclasses import replace

    import torch

    from circuits.attribution import cost_of
    from circuits.models.checkpoints import as_dtype, load_config, named_device
    from circuits.planning import (
        Job,
        Shape,
        available_memory,
        largest_batch,
        measure_rates,
        parse_bytes,
        resident_bytes,
        suggestions,
    )
    from circuits.planning import plan as planned

    use.silence_libraries()
    n = source.n
    config, target = load_config(model.model), named_device(model.device)
    if task is not None and length is None:
        shape, n = _measured(task, model.tokenizer or model.model, config, source, run.seed)
    elif length is not None and task is None:
        shape = Shape(1, length, answer_positions, shared=shared)
    else:
        raise CircuitsError("say how long the prompts are: --length 512, or --task NAME")
    on_host = target.type == "cpu"
    shape = replace(shape, dtype=as_dtype(model.dtype), device=target.type)
    job = Job(shape, cost_of(job_name), steps, n or 100, bool(layers.recompute), model.quantize)
    overhead = resident_bytes() if on_host else 0
    # This process holds the overhead already.
    has = parse_bytes(memory) if memory is not None else available_memory(target) + overhead
    one = planned(config, job, overhead=overhead)
    largest = largest_batch(config, job, has - one.held)
    job = job.of(run.batch_size or max(1, min(_usual(job), largest)))
    made = planned(config, job, overhead=overhead)
    _show(model.model, made, has)
    if made.total > has:
        typer.echo(f"does not fit: {made.total / has:.2f} x what {target} has")
        for change in suggestions(config, made, has) or ["nothing here helps; a larger device"]:
            typer.echo(f"  try {change}")
        raise typer.Exit(1)
    room = f", with room for batches of {largest}" if largest > job.shape.batch else ""
    typer.echo(f"fits {target}{room}")
    if on_host or torch.cuda.is_available():
        _show_time(made, measure_rates(made.sizes, shape.length, target, shape.dtype))
    else:
        typer.echo(f"time not told: no {target} here to measure")


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
    use.say_skipped(pairs.skipped)
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


def _show(model: str, made: Plan, has: int) -> None:
    job, traced = made.job, made.traced
    steps = f", {job.passes} steps" if job.cost.counted else ""
    what = "examples" if job.cost.trains else f"{job.n} pairs"
    dtype = str(job.shape.dtype).removeprefix("torch.")
    if job.quantize is not None:
        dtype = f"{dtype}, weights of layers in {job.quantize}"
    typer.echo(
        f"{model}: {traced.parameters / 1e6:,.1f} M parameters, {made.sizes.layout.summary}, "
        f"{made.sizes.layout.n_edges:,} edges"
    )
    name = f"{job.cost.name}{steps}" + (", layers run again" if job.recompute else "")
    typer.echo(
        f"{name}: {what} of {job.shape.length} tokens, {job.shape.batch} at a time, {dtype}\n"
    )
    parts = made.phases[made.fullest]
    rows = [*made.lasting.items(), *parts.items()]
    rows.append(("the allocator's slack", made.working - sum(parts.values())))
    if made.overhead:
        rows.append(("Python and libraries", made.overhead))
    for name, size in rows:
        typer.echo(f"{name:<40}{_amount(size):>10}")
    typer.echo(f"{'peak: ' + made.fullest:<40}{_amount(made.total):>10} of {_amount(has)}")


def _amount(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 1e10 else f"{size / 1e9:,.2f} GB"


def _show_time(made: Plan, rates: Rates) -> None:
    seconds = made.seconds(rates)
    told = f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    if seconds >= 100 * 60:
        told = f"{seconds / 3600:,.1f} h"
    typer.echo(
        f"about {told} (matrix products at {rates.matmul / 1e9:,.0f} GFLOP/s, attention at "
        f"{rates.attention / 1e9:,.0f}, other operations at {rates.moved / 1e9:,.0f} GB/s)"
    )
