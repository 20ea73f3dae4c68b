"""What scoring a large model on many GPUs would cost, simulated from what was measured.

    python scripts/simulate_scale.py [--pairs 10000] [--checkpoints 20] [--network 3e9] [--disk 2e9]

Workers score pairs one by one, the driver takes outcomes in order and adds them in float64, and no
worker gets further ahead than the engine lets it (`runtime/cluster/pool.py`); each checkpoint is
read anew by every machine, whose workers share its memory of files. Measured: seconds a pair on one
card (docs/results.md, `MODELS`), and on this machine how long the driver takes to add one matrix.
Assumed: bytes a second of the network into the driver, and of the disk that all machines read
checkpoints from. Of a model that no card was measured with, seconds are those of the measured one
times its weights.

One row a model and number of GPUs: hours, GPU hours, how busy the driver is, and what limits.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import torch

from circuits.graph import Layout
from circuits.runtime.cluster.pool import AHEAD

GPUS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Model:
    """One model in the shapes of Llama 3.1.

    seconds: of EAP-IG on one pair of 512 tokens on one card, 5 steps. weights: bytes.
    devices: cards that hold one model, layers one after the other, so that one works at a time.
    measured: where the seconds are from.
    """

    name: str
    layout: Layout
    seconds: float
    weights: float
    devices: int
    measured: str

    @property
    def matrix(self) -> int:
        """Bytes of one example's scores."""
        sources, readers = self.layout.shape
        return 4 * sources * readers


EIGHT, SEVENTY = 16e9, 141e9  # bytes in bfloat16
MEASURED = 0.93  # seconds, 1 x 512 on an H200, 2026-11-28
MODELS = (
    Model("8B", Layout(32, 32, 8), MEASURED, EIGHT, 1, "measured"),
    Model("70B", Layout(80, 64, 8), MEASURED * SEVENTY / EIGHT, SEVENTY, 2, "8B times the weights"),
)


@dataclass(frozen=True)
class Cost:
    """Of all checkpoints: seconds, and the share of them in which the driver works."""

    seconds: float
    driver: float


def simulated(
    workers: int, pairs: int, a_pair: float, a_matrix: float, loading: float, checkpoints: int
) -> Cost:
    """Score all pairs of every checkpoint.

    Args:
        workers: that each score one pair at a time.
        pairs: of each checkpoint.
        a_pair: seconds of a worker.
        a_matrix: seconds of the driver, for one pair's scores.
        loading: seconds before the first pair of a checkpoint.
        checkpoints: one after the other.

    Returns:
        The cost.
    """
    free = [loading] * workers
    taken: list[float] = []  # when the driver was done with each pair
    now = loading
    for pair in range(pairs):
        first = min(range(workers), key=free.__getitem__)
        given = taken[pair - AHEAD * workers] if pair >= AHEAD * workers else loading
        free[first] = max(free[first], given) + a_pair
        now = max(now, free[first]) + a_matrix
        taken.append(now)
    return Cost(checkpoints * now, pairs * a_matrix / now)


def seconds_to_add(matrix: int) -> float:
    """How long this machine takes to add one example's scores to a sum in float64."""
    one, total = torch.ones(matrix // 4), torch.zeros(matrix // 4, dtype=torch.float64)
    total += one
    began = time.perf_counter()
    for _ in range(5):
        total += one
    return (time.perf_counter() - began) / 5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--network", type=float, default=3e9, help="bytes a second to the driver")
    parser.add_argument("--gpus-a-machine", type=int, default=8)
    parser.add_argument("--disk", type=float, default=2e9, help="bytes a second, of all readers")
    options = parser.parse_args()
    print("| model | GPUs | hours | GPU hours | driver busy | limit |")
    print("|---|---|---|---|---|---|")
    for model in MODELS:
        add = seconds_to_add(model.matrix)
        matrix = add + model.matrix / options.network
        for gpus in GPUS:
            workers = gpus // model.devices
            if not workers:
                continue
            machines = math.ceil(gpus / options.gpus_a_machine)
            loading = machines * model.weights / options.disk
            given = (workers, options.pairs, model.seconds, matrix, loading, options.checkpoints)
            cost = simulated(*given)
            parts = {
                "workers": model.seconds * options.pairs / workers,
                "driver": matrix * options.pairs,
                "disk": loading,
            }
            limit = max(parts, key=parts.__getitem__)
            hours = cost.seconds / 3600
            row = (model.name, gpus, f"{hours:.1f}", f"{hours * gpus:.0f}", f"{cost.driver:.0%}")
            print("| " + " | ".join(map(str, row)) + f" | {limit} |", flush=True)
        sizes = f"{model.matrix / 1e6:.1f} MB a matrix, {add * 1e3:.1f} ms to add it"
        print(f"<!-- {model.name}: {sizes}; {model.seconds:.2f} s a pair ({model.measured}) -->")


if __name__ == "__main__":
    main()
