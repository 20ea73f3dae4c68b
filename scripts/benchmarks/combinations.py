"""Memory that `circuits plan` tells of each combination of settings, against what is then taken.

    python scripts/benchmarks/combinations.py [--models smollm2-135m gpt2] [--shapes 1x512]
        [--dtypes float32 bfloat16] [--kept plain int8 nf4] [--device cpu]

EAP-IG on prompts that share nothing, with and without layers run again; a model is loaded as the
verbs load it, or is one of plan.py's shapes with random weights. A fresh process a row. On a CPU
the kernel's own mark of the process, Python and weights included, from the moment in which the
model is loaded; on CUDA the most bytes that are allocated for tensors. One JSON line a row; `off`
is predicted / measured - 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from attribution import high_water, pairs, parsed_shape
from plan import MODELS
from transformers import AutoModelForCausalLM

from circuits.attribution import cost_of
from circuits.attribution.eap_ig import EAPIG
from circuits.metrics import METRICS
from circuits.models import HookedModel, WeightLoading
from circuits.models.checkpoints import as_dtype
from circuits.models.quantised import KINDS, quantise
from circuits.planning import Job, Shape, plan, resident_bytes

PLAIN = "plain"  # weights kept in the dtype


@dataclass(frozen=True)
class Row:
    """What is measured: EAP-IG on one model, shape and combination of settings."""

    model: str
    batch: int
    length: int
    dtype: str
    kept: str
    recompute: bool
    steps: int
    device: str


def loaded(row: Row) -> HookedModel:
    """The row's model, as the verbs load it; of plan.py's shapes with random weights."""
    dtype, kind = as_dtype(row.dtype), next((name for name in KINDS if name == row.kept), None)
    if row.model not in MODELS:
        weights = WeightLoading(quantize=kind)
        return HookedModel.from_pretrained(
            row.model, device=row.device, dtype=dtype, weights=weights
        )
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(MODELS[row.model], dtype=dtype).to(row.device)
    if kind is not None:
        quantise(network, kind)
    return HookedModel(network, None, row.model)


def measure(row: Row) -> dict[str, object]:
    """The row, with predicted and measured bytes of this process."""
    overhead = resident_bytes() if row.device == "cpu" else 0
    model = loaded(row)
    method, batch = EAPIG(steps=row.steps), pairs(row.batch, row.length, 0, row.device)
    if row.device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # forget the mark that loading left
    else:
        torch.cuda.reset_peak_memory_stats()
    method.scores(model, batch, METRICS["logit-difference"], recompute=row.recompute)
    measured = high_water() * 1024 if row.device == "cpu" else torch.cuda.max_memory_allocated()
    shape = Shape(row.batch, row.length, dtype=as_dtype(row.dtype), device=model.device.type)
    kind = next((name for name in KINDS if name == row.kept), None)
    job = Job(shape, cost_of("eap-ig"), row.steps, row.batch, row.recompute, kind)
    estimate = plan(model.hf.config, job, overhead=overhead)
    # Of CUDA what tensors take is known, not what the allocator holds for them.
    predicted = (
        estimate.total
        if row.device == "cpu"
        else estimate.fixed_bytes + sum(estimate.phases[estimate.fullest].values())
    )
    totals = {"predicted": predicted, "measured": measured}
    parts = {**estimate.lasting, **estimate.phases[estimate.fullest], "overhead": overhead}
    return {
        **asdict(row),
        **{f"{name}_megabytes": round(size / 1e6) for name, size in totals.items()},
        "off": round(predicted / measured - 1, 3),
        "fullest": estimate.fullest,
        "parts": {name: round(size / 1e6) for name, size in parts.items()},
    }


def main() -> None:
    """Print one JSON line a row, each from a fresh process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["smollm2-135m"])
    parser.add_argument("--shapes", nargs="+", type=parsed_shape, default=[(1, 512, 0)])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--kept", nargs="+", choices=[PLAIN, *KINDS], default=[PLAIN, *KINDS])
    parser.add_argument("--recompute", nargs="+", type=int, choices=[0, 1], default=[0, 1])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="one row, as JSON, in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.only:
        print(json.dumps(measure(Row(**json.loads(arguments.only)))))
        return
    for model, shape, dtype, precision, recompute in itertools.product(
        arguments.models, arguments.shapes, arguments.dtypes, arguments.kept, arguments.recompute
    ):
        settings = (dtype, precision, bool(recompute), arguments.steps, arguments.device)
        row = Row(model, shape[0], shape[1], *settings)
        command = [sys.executable, __file__, "--threads", str(arguments.threads)]
        command += ["--only", json.dumps(asdict(row))]
        process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print(process.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
