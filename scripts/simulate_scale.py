"""What scoring a large model on many GPUs would cost, simulated from what was measured.

    python scripts/simulate_scale.py [--pairs 10000] [--checkpoints 20] [--batch 8] [--no-disk]
        [--network 3e9] [--disk 2e9]

Workers score batches one by one, the driver takes what comes of them in order, and no worker gets
further ahead than the engine lets it (`runtime/cluster/pool.py`); each checkpoint is read again by
every machine, whose workers share its memory of files. Workers write single examples' scores to a
disk that all see, and the driver is sent a batch's sum; with `--no-disk` it is sent every matrix,
and writes it. Measured: seconds a pair on one card (docs/results/gpu.md, `MODELS`), and on this
machine how long the driver takes over one batch. Assumed: bytes a second of the network into the
driver, and of the disk that all machines read checkpoints from and write to. Of a model that no
card was measured with, seconds are those of the measured one times its weights.

One row a model and number of GPUs: hours, GPU hours, how busy the driver is, and what limits.
"""

from __future__ import annotations

import argparse
import math
import time
import zlib
from dataclasses import dataclass

import torch

from circuits.attribution.batch_sums import BatchSums, Doubt
from circuits.graph import Layout
from circuits.runtime.cluster.packing import packed, unpacked
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
    workers: int, batches: int, a_batch: float, taking: float, loading: float, checkpoints: int
) -> Cost:
    """Score all pairs of every checkpoint.

    Args:
        workers: that each score one batch at a time.
        batches: of each checkpoint.
        a_batch: seconds of a worker.
        taking: seconds of the driver, for what comes of a batch.
        loading: seconds before the first batch of a checkpoint.
        checkpoints: one after the other.

    Returns:
        The cost.
    """
    free_at = [loading] * workers
    taken_at: list[float] = []  # when the driver was done with each batch
    driver_time = loading
    for batch in range(batches):
        worker = min(range(workers), key=free_at.__getitem__)
        sent_at = taken_at[batch - AHEAD * workers] if batch >= AHEAD * workers else loading
        free_at[worker] = max(free_at[worker], sent_at) + a_batch
        driver_time = max(driver_time, free_at[worker]) + taking
        taken_at.append(driver_time)
    return Cost(checkpoints * driver_time, batches * taking / driver_time)


def sent(shape: tuple[int, int], batch: int, *, by_workers: bool) -> BatchSums:
    """What a worker hands on of a batch by EAP-IG, of whose readers an eighth are audited."""
    columns = torch.arange(shape[1] // 8)
    doubt = Doubt(
        torch.ones(shape[0], len(columns), dtype=torch.float64),
        columns,
        torch.ones(shape[1]),
        torch.ones(2, batch),
    )
    scores = None if by_workers else torch.ones(batch, *shape)
    total = torch.ones(shape, dtype=torch.float64) if by_workers else None
    checks = torch.ones(batch, dtype=torch.int64) if by_workers else None
    return BatchSums(scores, checks, total, torch.ones(2, batch), doubt)


def driver_takes(found: BatchSums, shape: tuple[int, int]) -> tuple[float, int]:
    """Seconds of this machine over one batch, without the network and the disk; and its bytes."""
    total, doubt = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    content, durations = packed(found), []
    for _ in range(4):
        start = time.process_time()
        sums = unpacked(content)
        assert isinstance(sums, BatchSums) and sums.doubt is not None
        sums.add_to(total)
        doubt[..., sums.doubt.columns] += sums.doubt.total
        for row in () if sums.scores is None else sums.scores:
            zlib.crc32(memoryview(row.numpy()).cast("B"))
        durations.append(time.process_time() - start)
    return min(durations[1:]), len(content)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8, help="pairs a worker scores at a time")
    parser.add_argument("--no-disk", action="store_true", help="that the workers could write to")
    parser.add_argument("--network", type=float, default=3e9, help="bytes a second to the driver")
    parser.add_argument("--gpus-a-machine", type=int, default=8)
    parser.add_argument("--disk", type=float, default=2e9, help="bytes a second, of all machines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | GPUs | hours | GPU hours | driver busy | limit |")
    print("|---|---|---|---|---|---|")
    for model in MODELS:
        batch_sums = sent(model.layout.shape, options.batch, by_workers=not options.no_disk)
        seconds, size = driver_takes(batch_sums, model.layout.shape)
        taking = seconds + size / options.network
        if options.no_disk:
            taking += options.batch * model.matrix / options.disk
        batches = math.ceil(options.pairs / options.batch)
        for gpus in GPUS:
            workers = gpus // model.devices
            if not workers:
                continue
            machines = math.ceil(gpus / options.gpus_a_machine)
            loading = machines * model.weights / options.disk
            a_batch = options.batch * model.seconds
            cost = simulated(workers, batches, a_batch, taking, loading, options.checkpoints)
            resource_seconds = {
                "workers": a_batch * batches / workers,
                "driver": taking * batches,
                "disk": loading + options.pairs * model.matrix / options.disk,
            }
            limit = max(resource_seconds, key=resource_seconds.__getitem__)
            hours = cost.seconds / 3600
            row = (model.name, gpus, f"{hours:.1f}", f"{hours * gpus:.0f}", f"{cost.driver:.0%}")
            print("| " + " | ".join(map(str, row)) + f" | {limit} |", flush=True)
        sizes = f"{size / 1e6:.1f} MB a batch of {options.batch}, {taking * 1e3:.0f} ms to take it"
        print(f"<!-- {model.name}: {sizes}; {model.seconds:.2f} s a pair ({model.measured}) -->")


if __name__ == "__main__":
    main()
