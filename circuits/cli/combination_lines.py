"""What `circuits plan` says of combinations of settings: a line each, which ends with the flags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain

from circuits.format import duration, memory
from circuits.options.tuning import StepOptions
from circuits.planning import Change, Devices, Fit, FitSearch, Job

_VERBS = {"evaluate": "evaluate", "mask": "learn", "diff": "diff", "finetune": "finetune"}
_LORA = ("run", "RECIPE")  # adapters are trained by recipes alone
_MEGABYTES = 10**8  # limits above are told in megabytes
_CHANGES: dict[Change, str] = {
    "nothing": "nothing changes but last digits",
    "products": "products of 8 significant bits, as mixed precision has them",
    "bfloat16": "numbers of 8 significant bits",
    "int8": "weights rounded to 8 bits",
    "nf4": "weights of 4 bits: scores of another model",
}


def combination_lines(job: Job, search: FitSearch, devices: Devices) -> Iterator[str]:
    """What was found, the least change first; or by how much nothing fits.

    Args:
        job: what is done.
        search: by `planning.combinations`.
        devices: what it was found for.

    Yields:
        Lines.
    """
    available = memory(devices.bytes_each)
    for fit in search.fits:
        words = " ".join(flags(job, fit, devices))
        cost = f"{memory(fit.bytes)} of {available}, about {duration(fit.seconds)}"
        yield f"  {_CHANGES[fit.changes]}: {cost}: {words}"
    if search.nearest is not None:
        nearest = search.nearest
        yield (
            f"  nothing fits {available}: the nearest takes {memory(nearest.bytes)}, "
            f"{memory(nearest.bytes - devices.bytes_each)} more "
            f"({' '.join(flags(job, nearest, devices))}); shorter prompts or larger devices would "
            "help"
        )


def flags(job: Job, fit: Fit, devices: Devices) -> list[str]:
    """The verb that does a job, and all flags that a combination of settings is made of.

    Args:
        job: what is done.
        fit: the combination.
        devices: what it was found for.

    Returns:
        Words of a command line, without what the verb needs beside (a model, a task).
    """
    combination, name = fit.combination, job.cost.name
    step = _changed(combination.step)
    if name == "lora":
        keys = {"batch_size": combination.batch, **step}
        sets = [("--set", f"lora.{key}={str(value).lower()}") for key, value in keys.items()]
        return [*_LORA, *chain.from_iterable(sets)]
    words = [_VERBS.get(name, "discover")]
    dtype = str(combination.dtype).removeprefix("torch.")
    words += [] if dtype == "float32" else ["--dtype", dtype]
    words += [] if combination.quantize is None else ["--quantize", combination.quantize]
    words += ["--recompute"] if combination.recompute else []
    words += ["--batch-size", str(combination.batch)]
    for key, value in step.items():
        flag = f"--{key.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    if fit.spread is not None:
        limits = ",".join(f"{i}={_limit(limit)}" for i, limit in enumerate(fit.spread.limits))
        words += ["--device-map", "auto", "--max-memory", limits]
    elif devices.kind == "cpu" or combination.workers > 1:
        words += ["--device", "cpu"]  # of workers: the driver's own model takes no GPU then
    if combination.workers > 1:
        words += ["--engine", "ray", "--workers", str(combination.workers)]
        words += ["--gpus-per-worker", str(combination.devices)]
    return words


def _changed(step: StepOptions) -> dict[str, object]:
    """How a step is run, where it is not run as usual."""
    usual = asdict(StepOptions())
    return {name: value for name, value in asdict(step).items() if value != usual[name]}


def _limit(size: int) -> str:
    return f"{size // 10**6}MB" if size > _MEGABYTES else f"{size // 1000}KB"
