"""Memory and time of EAP-IG with layers run again in the backward pass, against without.

    python scripts/benchmarks/recompute.py [--models gpt2 llama] [--shapes 1x1024] [--steps 5]
        [--repeats 1] [--threads 1]

Random weights, prompts that share nothing. Memory is the kernel's own mark of a fresh process a
side, less what that process held with the model loaded; `predicted` is the plan's for the whole
process. Time is the CPU time of both sides in turn in one process, of which the shortest counts;
`--repeats 0` leaves it out. One JSON line a model and shape.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from attribution import high_water, pairs, parsed_shape
from plan import MODELS
from transformers import AutoModelForCausalLM

from circuits.attribution import cost_of
from circuits.attribution.eap_ig import EAPIG
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.planning import Job, Shape, plan, resident_bytes

SIDES = {"without": False, "with": True}


class Side:
    """EAP-IG on one model and one batch."""

    def __init__(self, name: str, shape: tuple[int, int, int], steps: int) -> None:
        config = MODELS[name]
        if (config.max_position_embeddings or 0) < shape[1]:
            config = type(config)(**{**config.to_dict(), "max_position_embeddings": shape[1]})
        torch.manual_seed(0)
        self.overhead, self.config = resident_bytes(), config
        self.model = HookedModel(AutoModelForCausalLM.from_config(config), None, name)
        self.batch, self.shape, self.method = pairs(*shape), shape, EAPIG(steps=steps)

    def scores(self, *, recompute: bool) -> torch.Tensor:
        """Scores of the batch."""
        metric = METRICS["logit-difference"]
        return self.method.scores(self.model, self.batch, metric, recompute=recompute).scores

    def memory(self, *, recompute: bool) -> dict[str, float]:
        """Megabytes: what one batch takes above the loaded model, in all, and what is planned."""
        Path("/proc/self/clear_refs").write_text("5")  # forget the mark that loading left
        loaded_bytes = resident_bytes()
        self.scores(recompute=recompute)
        peak = high_water() * 1024
        shape = Shape(self.shape[0], self.shape[1], shared=self.shape[2])
        job = Job(shape, cost_of("eap-ig"), int(self.method.steps), 1, recompute)
        planned = plan(self.config, job, overhead=self.overhead).total
        totals = {"above": peak - loaded_bytes, "in all": peak, "predicted": planned}
        return {name: round(size / 1e6) for name, size in totals.items()}

    def seconds(self, repeats: int) -> tuple[dict[str, float], float]:
        """CPU seconds of both sides, and how far scores are apart, of the largest."""
        durations: dict[str, list[float]] = {side: [] for side in SIDES}
        scores = {}
        for _ in range(repeats):
            for side, recompute in SIDES.items():
                start = time.process_time()
                scores[side] = self.scores(recompute=recompute)
                durations[side].append(time.process_time() - start)
        gap = (scores["with"] - scores["without"]).abs().max() / scores["without"].abs().max()
        return {side: round(min(times), 2) for side, times in durations.items()}, float(gap)


def main() -> None:
    """Print one JSON line a model and shape."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["gpt2", "llama"])
    parser.add_argument("--shapes", nargs="+", type=parsed_shape, default=[(1, 1024, 0)])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1, help="runs timed; 0 for memory alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs=5, metavar=("MODEL", "SIDE", "N", "LENGTH", "SHARED"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.only:
        name, side, *numbers = arguments.only
        n, length, shared = map(int, numbers)
        benchmark = Side(name, (n, length, shared), arguments.steps)
        print(json.dumps(benchmark.memory(recompute=SIDES[side])))
        return
    for name in arguments.models:
        for shape in arguments.shapes:
            row: dict[str, object] = {"model": name, "shape": "{} x {}".format(*shape[:2])}
            command = [sys.executable, __file__, "--steps", str(arguments.steps)]
            command += ["--threads", str(arguments.threads), "--only", name]
            megabytes_above = {}
            for side in SIDES:
                run = [*command, side, *map(str, shape)]
                process = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True)
                row[f"megabytes {side}"] = megabytes = json.loads(process.stdout)
                megabytes_above[side] = megabytes["above"]
            row["memory_ratio"] = round(megabytes_above["with"] / megabytes_above["without"], 3)
            if arguments.repeats:
                seconds, gap = Side(name, shape, arguments.steps).seconds(arguments.repeats)
                ratio = round(seconds["with"] / seconds["without"], 3)
                row |= {"seconds": seconds, "time_ratio": ratio, "scores_apart": gap}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
