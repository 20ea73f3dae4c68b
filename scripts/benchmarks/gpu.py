"""Everything that is to be known of one card, in one run of under eight minutes, without a network.

    python scripts/benchmarks/gpu.py --out gpu.json
    python scripts/benchmarks/gpu.py --device cpu --small      # a rehearsal of seconds

Random weights in the shapes of GPT-2 small (float32: 2 x 128, 16 x 128 and 1 x 1,024 tokens) and of
Llama 3.1 8B (bfloat16: 1 x 512 and 1 x 1,024), drawn on the card itself. Of each:

- EAP-IG with 5 steps beside its floor, the passes that it is made of and no more (see
  `attribution.py`): seconds of both, alternately, and the most that each allocates;
- what `circuits plan` predicts for it, bytes and seconds, by rates measured on the card.

Then one circuit of random edges at several sizes beside one plain forward pass: the dearest kind.

Then (`gpu_limits.py`) whether scores on the card are those of the processor, also with layers run
again and with most layers in the processor's memory; and the most memory that the 8B shape takes
at 1 x 1,024 in bfloat16, and in int8 and nf4 with layers run again.

One JSON file, written again after every line, so that a run that is cut off has kept what it did.
Lines that the budget (`--budget`, seconds) leaves no time for are named under `left_out`. Targets:
engine / floor at most 1.15 in time and 1.25 in memory on each line; `met` says of which it holds.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attribution import STEPS, allocated, engine, floor, pairs, random_model, seconds
from evaluation import plain, random_circuit
from gpu_limits import LIMITS, exact_line, size_line

from circuits.attribution import cost_of
from circuits.intervention import CircuitRunner
from circuits.models import HookedModel
from circuits.models.checkpoints import as_device, as_dtype
from circuits.planning import Job, Rates, Shape, measure_rates, plan
from circuits.planning.sizes import Sizes
from circuits.provenance import versions

TIME, MEMORY = 1.15, 1.25  # most that the engine may take of the floor
SHARES = (0.001, 0.01, 0.1, 0.5, 1.0)
LINE = 60  # seconds that a line should be given at least


@dataclass(frozen=True)
class Part:
    """One model, and the prompts that it is measured on, as (pairs, tokens)."""

    model: str
    dtype: str
    shapes: tuple[tuple[int, int], ...]
    layers: int | None = None


PARTS = (
    Part("gpt2", "float32", ((2, 128), (16, 128), (1, 1024))),
    Part("llama-3.1-8b", "bfloat16", ((1, 512), (1, 1024))),
)


def rehearsed(part: Part) -> Part:
    """The part on one layer of GPT-2's shape, with short prompts: 8B takes minutes to draw."""
    shapes = tuple((n, length // 16) for n, length in part.shapes)
    return replace(part, model="gpt2", layers=1, shapes=shapes)


def score_line(
    model: HookedModel, part: Part, n: int, length: int, rates: Rates, repeats: int
) -> dict[str, Any]:
    """EAP-IG on one shape: seconds and bytes of both sides, and what the plan says of them."""
    batch = pairs(n, length, 0, model.device)
    sides: dict[str, Callable[[], object]] = {
        "floor": partial(floor, model, batch),
        "engine": partial(engine, model, batch),
    }
    durations = in_turn(sides, repeats)
    bytes_of = {name: allocated(model.device, work) for name, work in sides.items()}
    job = Job(
        Shape(n, length, dtype=as_dtype(part.dtype), device=model.device.type),
        cost_of("eap-ig"),
        STEPS,
        n,
    )
    estimate = plan(model.hf.config, job)
    ratio = statistics.median(
        engine_time / base
        for engine_time, base in zip(durations["engine"], durations["floor"], strict=True)
    )
    line: dict[str, Any] = {
        "what": "eap-ig",
        "model": model.name,
        "dtype": part.dtype,
        "shape": f"{n} x {length}",
        "steps": STEPS,
        "seconds": {name: round(statistics.median(times), 4) for name, times in durations.items()},
        "time_ratio": round(ratio, 3),
        "planned_seconds": round(estimate.seconds(rates), 4),
        "planned_bytes": estimate.total - estimate.overhead,
        "met": {"time": ratio <= TIME},
    }
    floor_bytes, engine_bytes = bytes_of["floor"], bytes_of["engine"]
    if floor_bytes is not None and engine_bytes is not None:
        line["bytes"] = bytes_of
        line["memory_ratio"] = round(engine_bytes / floor_bytes, 3)
        line["met"]["memory"] = line["memory_ratio"] <= MEMORY
    return line


def circuit_line(model: HookedModel, n: int, length: int, repeats: int) -> dict[str, Any]:
    """Running circuits on one batch, by their share of the edges, over one plain forward pass."""
    batch = pairs(n, length, 0, model.device)
    executor = CircuitRunner(model, batch)
    ratios = {}
    for share in SHARES:
        circuit = random_circuit(model.layout, share)
        sides: dict[str, Callable[[], object]] = {
            "plain": partial(plain, model, batch),
            "circuit": partial(executor.logits, circuit),
        }
        durations = in_turn(sides, repeats)
        ratios[f"{share:.1%}"] = round(
            statistics.median(
                circuit_time / base
                for circuit_time, base in zip(durations["circuit"], durations["plain"], strict=True)
            ),
            3,
        )
    return {
        "what": "circuits",
        "model": model.name,
        "shape": f"{n} x {length}",
        "time_ratio": ratios,
    }


def in_turn(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, alternately; the first round warms up and does not count."""
    durations: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, work in sides.items():
            duration = seconds(work)
            if repeat:
                durations[name].append(duration)
    return durations


def card(device: torch.device) -> str:
    """The device's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def measure(
    parts: list[Part], options: argparse.Namespace, keep: Callable[[dict[str, Any]], None]
) -> list[str]:
    """Every line in turn, each kept at once; returns the names of those that time ran out for."""
    start, left_out = time.perf_counter(), []

    def late(name: str) -> bool:
        remaining = options.budget - (time.perf_counter() - start)
        if remaining < (LINE if options.device != "cpu" else 0):
            left_out.append(name)
            return True
        return False

    for part in parts:
        if late(part.model):
            continue
        model_options = argparse.Namespace(
            model=part.model, layers=part.layers, device=options.device, dtype=part.dtype
        )
        model = random_model(model_options)
        sizes = Sizes.of(model.hf.config)
        for n, length in part.shapes:
            name = f"{part.model} {n} x {length}"
            if late(name):
                continue
            rates = measure_rates(sizes, length, model.device, as_dtype(part.dtype))
            keep(score_line(model, part, n, length, rates, options.repeats))
        if not late(f"{part.model} circuits"):
            keep(circuit_line(model, *part.shapes[0], options.repeats))
        del model
        emptied()
    sizes_of = argparse.Namespace(device=options.device, layers=None, length=128)
    sizes_of.big, sizes_of.long, sizes_of.dtype = "llama-3.1-8b", 1024, "bfloat16"
    if options.small:
        sizes_of.layers, sizes_of.length, sizes_of.big, sizes_of.long = 1, 8, "gpt2", 64
    if not late("scores beside the processor's"):
        keep(exact_line(sizes_of))
    for kind, recompute, limit in LIMITS:
        if not late(f"memory, {kind or 'plain'}"):
            keep(size_line(sizes_of, kind, limit, recompute=recompute))
            emptied()
    return left_out


def emptied() -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main() -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=450, help="seconds for all")
    parser.add_argument(
        "--small", action="store_true", help="one layer, short prompts: a rehearsal"
    )
    options = parser.parse_args()
    device = as_device(options.device)
    record: dict[str, Any] = {
        "card": card(device),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions().model_dump(),
        "rehearsal": options.small,
        "targets": {"time": TIME, "memory": MEMORY},
        "lines": [],
        "left_out": [],
    }

    def keep(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)
        record["lines"].append(line)
        options.out.write_text(json.dumps(record, indent=1) + "\n")

    parts = [rehearsed(part) if options.small else part for part in PARTS]
    record["left_out"] = measure(parts, options, keep)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
