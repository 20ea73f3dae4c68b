"""Memory and rates of a device, read from files and clocks made for the test."""

import pytest
import torch
from conftest import CONFIGS

from circuits.errors import CircuitsError
from circuits.planning.device import (
    Rates,
    available_memory,
    host_memory,
    measure_rates,
    parse_bytes,
    resident_bytes,
    total_memory,
)
from circuits.planning.passes import Pass, Workload
from circuits.planning.sizes import Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GB", 24e9), ("16GiB", 16 * 2**30), ("512 MiB", 2**29), ("1.5g", 1.5e9), ("123", 123)],
)
def test_amounts_of_memory(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "24XB", "1.2.3GB", "-4GB", "0GB"])
def test_no_amounts_of_memory(text):
    with pytest.raises(CircuitsError, match="is no amount of memory; write 24GB"):
        parse_bytes(text)


def tree(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n"


def test_host_memory_is_the_least_of_kernel_and_group(tmp_path):
    tree(tmp_path, proc__meminfo=MEMINFO)
    assert host_memory("MemAvailable", tmp_path) == 4000 * 1024
    assert host_memory("MemTotal", tmp_path) == 9000 * 1024
    group = {"sys__fs__cgroup__memory.current": "500000"}
    tree(tmp_path, **group, **{"sys__fs__cgroup__memory.max": "max"})
    assert host_memory("MemAvailable", tmp_path) == 4000 * 1024
    tree(tmp_path, **{"sys__fs__cgroup__memory.max": "2500000"})
    assert host_memory("MemAvailable", tmp_path) == 2_000_000
    assert host_memory("MemTotal", tmp_path) == 2_500_000
    old = "sys__fs__cgroup__memory__memory."
    tree(tmp_path, **{old + "limit_in_bytes": "900000", old + "usage_in_bytes": "1000000"})
    assert host_memory("MemAvailable", tmp_path) == 0
    assert host_memory("MemTotal", tmp_path) == 900_000


def test_unknown_memory_is_refused(tmp_path):
    with pytest.raises(CircuitsError, match="say it with --memory 24GB"):
        host_memory("MemTotal", tmp_path)
    with pytest.raises(CircuitsError, match="mps: its memory is not known"):
        available_memory(torch.device("mps"))
    for known in (available_memory, total_memory):
        with pytest.raises(CircuitsError, match="cuda:99: no such device here"):
            known(torch.device("cuda:99"))
    cpu = torch.device("cpu")
    assert 1e6 < available_memory(cpu) <= total_memory(cpu)
    assert resident_bytes() > 1e8


def test_rates_are_work_over_the_shortest_time():
    ticks = iter(range(10**6))
    sizes = Sizes.of(CONFIGS["gpt2"]())
    rates = measure_rates(
        sizes, 16, torch.device("cpu"), torch.float32, clock=lambda: float(next(ticks))
    )
    d = 32
    assert rates.matmul == 2 * 64 * d * 4 * d
    assert rates.attention == 2 * 7 * 16**2 * 8
    assert rates.moved == 10 * 64 * 4 * d * 4
    assert rates.launch == 1 / 200  # a tick for a hundred operations and their gradients
    real = measure_rates(sizes, 16, torch.device("cpu"), torch.float32)
    assert min(real.matmul, real.attention, real.moved) > 1e4
    assert 1e-7 < real.launch < 1e-2


def test_seconds_of_a_pass():
    cost = Pass(matmul=100, attention=20, moved=3, launches=7, saved=0, peak=0)
    assert Rates(10.0, 5.0, 3.0, launch=2.0).seconds(cost) == 10 + 4 + 1
    assert Rates(10.0, 5.0, 3.0, launch=3.0).seconds(cost) == 7 * 3
    assert cost * 2 == Workload(200, 40, 6, 14)
