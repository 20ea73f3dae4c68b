"""What `circuits plan` predicts against what EAP-IG then takes.

    python scripts/benchmarks/plan.py [--models gpt2 llama] [--shapes 2x128 1x512 1x1024]

Random weights, 5 steps. Peak memory is the kernel's own mark of a fresh process that scores one
batch. Time is CPU time of one thread, the shorter of two runs, which other processes disturb less
than wall time; the rates that the prediction rests on are measured in the same process by the same
clock. One JSON line a model and shape; `off` is predicted / measured - 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from attribution import high_water, pairs
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedConfig

from circuits.attribution import method
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.models.feed import shared_length
from circuits.planning import Job, Rates, Shape, measure_rates, plan, resident_bytes

STEPS = 5
MODELS: dict[str, PreTrainedConfig] = {
    "gpt2": GPT2Config(),
    "llama": LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        vocab_size=50_257,
    ),
}


def measure(name: str, n: int, length: int, shared: int, repeats: int) -> dict[str, object]:
    """Score one batch in this process: peak bytes, seconds, and the rates of the device."""
    torch.manual_seed(0)
    overhead = resident_bytes()
    model = HookedModel(AutoModelForCausalLM.from_config(MODELS[name]), None, name)
    batch = pairs(n, length, shared)
    chosen, metric = method("eap-ig", steps=STEPS), METRICS["logit-difference"]
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        chosen.scores(model, batch, metric)
        taken.append(time.process_time() - began)
    peak = high_water() * 1024
    shape = Shape(n, length, shared=shared_length(batch))
    made = plan(MODELS[name], Job(shape, steps=STEPS), overhead=overhead)
    cpu, single = torch.device("cpu"), torch.float32
    rates: Rates = measure_rates(made.sizes, length, cpu, single, time.process_time)
    predicted = made.seconds(rates)
    return {
        "model": name,
        "shape": f"{n} x {length}",
        "shared": shape.shared,
        "steps": STEPS,
        "predicted_gigabytes": round(made.total / 1e9, 3),
        "measured_gigabytes": round(peak / 1e9, 3),
        "memory_off": round(made.total / peak - 1, 3),
        "predicted_seconds": round(predicted, 2),
        "measured_seconds": round(min(taken), 2),
        "time_off": round(predicted / min(taken) - 1, 3),
        "gigaflops": [round(rates.matmul / 1e9, 1), round(rates.attention / 1e9, 1)],
        "gigabytes_a_second": round(rates.moved / 1e9, 1),
    }


def main() -> None:
    """Print one JSON line a model and shape, each from a fresh process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--shapes", nargs="+", default=["2x128", "1x512", "1x1024"])
    parser.add_argument("--shared", type=int, default=0, help="tokens that the prompts share")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    for name in arguments.models:
        for shape in arguments.shapes:
            if arguments.here:
                torch.set_num_threads(1)
                n, length = map(int, shape.split("x"))
                print(json.dumps(measure(name, n, length, arguments.shared, arguments.repeats)))
                continue
            command = [sys.executable, str(Path(__file__)), "--here", "--models", name]
            command += ["--shapes", shape, "--repeats", str(arguments.repeats)]
            command += ["--shared", str(arguments.shared)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(done.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
