"""Freed memory goes back to the system when that is asked for, where glibc would keep it."""

import platform

import pytest
import torch

from circuits.planning import resident_bytes
from circuits.runtime.heap import given_back_from, release_freed

EIGHT = 2**21  # numbers: 8 MiB


def left_when_freed():
    """Bytes still held of 64 MiB that were freed, between blocks that stay."""
    torch.ones(2 * EIGHT)  # glibc then keeps blocks of that size
    release_freed()  # what others left, or it would be taken first
    before, large, between = resident_bytes(), [], []
    for _ in range(8):
        large.append(torch.ones(EIGHT))
        between.append(torch.ones(2**14))
    assert resident_bytes() - before > 50e6
    large.clear()
    return resident_bytes() - before


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another C library keeps other blocks"
)
def test_large_blocks_go_back_at_once_within():
    assert left_when_freed() > 40e6
    for _ in range(2):
        with given_back_from(2**20):
            assert left_when_freed() < 10e6
        assert left_when_freed() > 40e6
