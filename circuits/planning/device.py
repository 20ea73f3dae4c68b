"""What a device has: free memory, and how fast it multiplies, attends and moves bytes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from circuits.errors import CircuitsError
from circuits.planning.passes import Workload
from circuits.planning.sizes import Sizes

_ENOUGH = 0.02  # seconds that the work measured should take
_TINY = 100  # operations in a row that tell how long one takes to be handed over
_BUDGET = 0.1  # seconds spent on one measurement, at least three repetitions
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"([\d.]+)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


@dataclass(frozen=True)
class Rates:
    """matmul, attention: floating-point operations a second. moved: bytes a second.

    launch: seconds from one operation to the next, however small they are.
    """

    matmul: float
    attention: float
    moved: float
    launch: float = 0.0

    def seconds(self, work: Workload) -> float:
        """How long so much work takes, on a device that works while it is given more.

        Args:
            work: operations and bytes.

        Returns:
            Seconds: of the work itself or of handing it over, whichever takes longer.
        """
        done = work.matmul / self.matmul + work.attention / self.attention + work.moved / self.moved
        return max(done, work.launches * self.launch)


def parse_bytes(text: str) -> int:
    """Bytes of "24GB", "512 MiB" or a plain number; B counts thousands, iB powers of 1,024.

    Args:
        text: the size.

    Returns:
        Bytes.

    Raises:
        CircuitsError: for what is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** _UNITS[match[2].upper()])
        if size == 0:
            raise ValueError
        return size
    except ValueError as error:
        raise CircuitsError(f"{text!r} is no amount of memory; write 24GB or 16GiB") from error


def available_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on the device.

    Args:
        device: where.

    Returns:
        Bytes.
    """
    if device.type == "cpu":
        return host_memory("MemAvailable")
    return _on_cuda(device)[0]


def total_memory(device: torch.device) -> int:
    """Bytes that the device has, whoever holds them now.

    Args:
        device: where.

    Returns:
        Bytes.
    """
    if device.type == "cpu":
        return host_memory("MemTotal")
    return _on_cuda(device)[1]


def _on_cuda(device: torch.device) -> tuple[int, int]:
    if device.type != "cuda":
        raise CircuitsError(f"{device}: its memory is not known; say it with --memory 24GB")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= n_devices:
        raise CircuitsError(f"{device}: no such device here; say its memory with --memory 24GB")
    return torch.cuda.mem_get_info(device)


def host_memory(of: str, root: str | Path = "/") -> int:
    """Bytes of host memory: what the kernel says, or what the control group allows if less.

    Args:
        of: "MemTotal" for all there is, "MemAvailable" for what is left.
        root: where the system's files are.

    Returns:
        Bytes.
    """
    root = Path(root)
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        entry = next(line for line in lines if line.startswith(f"{of}:"))
    except (OSError, StopIteration) as error:
        raise CircuitsError("host memory is not known; say it with --memory 24GB") from error
    limits = [int(entry.split()[1]) * 1024]
    for limit, used in _CONTROL_GROUPS:
        try:
            allowed = int((root / limit).read_text())
            in_use = int((root / used).read_text()) if of == "MemAvailable" else 0
        except (OSError, ValueError):  # no such group, or "max"
            continue
        limits.append(allowed - in_use)
    return max(0, min(limits))


_CONTROL_GROUPS = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
    (
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def resident_bytes() -> int:
    """Bytes of host memory that this process, with Python and its libraries, holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096


def measure_rates(
    sizes: Sizes,
    length: int,
    device: torch.device,
    dtype: torch.dtype,
    clock: Callable[[], float] = time.perf_counter,
) -> Rates:
    """Measure a device at a model's shapes, for a fraction of a second each.

    Args:
        sizes: of the model.
        length: tokens of a prompt.
        device: what to measure.
        dtype: what the model computes in.
        clock: `time.process_time` measures CPU seconds, which other processes disturb less.

    Returns:
        Operations and bytes in a second, and seconds between operations.
    """
    d, heads = sizes.d_model, sizes.layout.n_heads

    def new(*shape: int) -> Tensor:
        return torch.rand(shape, device=device).to(dtype)

    def matmul(size: int) -> tuple[Callable[[], object], float]:
        left, right = new(64 * size, d), new(d, 4 * d)
        return lambda: left @ right, 2.0 * 64 * size * d * 4 * d

    def attention(size: int) -> tuple[Callable[[], object], float]:
        q, k, v = (new(1, size, length, sizes.d_head).requires_grad_() for _ in "qkv")

        def work() -> object:
            output = scaled_dot_product_attention(q, k, v, is_causal=True)
            return torch.autograd.grad(output.sum(), (q, k, v))

        return work, 2.0 * (2 + 5) * size * length**2 * sizes.d_head

    def elementwise(size: int) -> tuple[Callable[[], object], float]:
        x, y = new(64 * size, 4 * d), new(64 * size, 4 * d)
        passed = 2 + 3 + 2 + 3  # tensors read and written, in the order of the operations
        return lambda: torch.tanh(x * 0.5 + y) * x, passed * float(x.numel() * x.element_size())

    def launch() -> float:
        """Seconds an operation, in both directions: a graph costs time whatever is in it."""
        x = new(1).requires_grad_()

        def work() -> object:
            y = x
            for _ in range(_TINY):
                y = y * 0.5
            return torch.autograd.grad(y, x)

        return _shortest(work, device, clock) / (2 * _TINY)

    def rate(make: Callable[[int], tuple[Callable[[], object], float]], most: int) -> float:
        size = 1
        while True:
            work, amount = make(size)
            best = _shortest(work, device, clock)
            if best >= _ENOUGH or size >= most:
                return amount / max(best, 1e-9)
            size *= 2

    with torch.enable_grad():
        return Rates(rate(matmul, 64), rate(attention, heads), rate(elementwise, 64), launch())


def _shortest(
    work: Callable[[], object], device: torch.device, clock: Callable[[], float]
) -> float:
    """The shortest of several times: others on the machine only ever make it longer."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < _BUDGET and len(taken) < 100):
        wait()
        began = clock()
        work()
        wait()
        taken.append(clock() - began)
    return min(taken)
