"""Freed memory goes back to the system when that is asked for, where glibc would keep it."""

import platform

import pytest
import torch

from circuits.planning import resident_bytes
from circuits.runtime.heap import given_back_from

LARGE = 6 * 2**20  # numbers: 24 MiB


def left_when_freed():
    """Bytes still held of 96 MiB that were freed, between blocks that stay."""
    before, large, between = resident_bytes(), [], []
    for _ in range(4):
        large.append(torch.ones(LARGE))
        between.append(torch.ones(2**14))
    large.clear()
    return resident_bytes() - before


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library keeps other blocks"
)
def test_large_blocks_go_back_at_once_within():
    """A hole that is there already may be taken, and is kept."""
    with given_back_from(2**20):
        assert left_when_freed() < 30e6
    assert left_when_freed() > 60e6
