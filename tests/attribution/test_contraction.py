"""Blocks of examples and positions that sources meet readers in."""

import pytest
import torch

from circuits.attribution.contraction import blocks
from circuits.attribution.narrow import narrow_products
from circuits.runtime.limits import HELD_BYTES, held_passes


@pytest.mark.parametrize("size", [1, 4, 9, 14, 15, 28, 1000])
def test_every_position_is_in_one_block_and_none_is_larger_than_asked(size):
    lengths = [9, 14, 6, 9, 14]
    seen = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for examples, positions in blocks(lengths, size):
        seen[examples, positions] += 1
        assert seen[examples, positions].numel() <= size
        assert positions.stop <= max(lengths[examples])  # no more padding than the longest asks for
    for row, length in zip(seen, lengths, strict=True):
        assert bool((row[:length] == 1).all()) and int(row.max()) == 1


def test_whole_examples_stand_together_where_they_fit():
    assert list(blocks([5, 3, 4], 10)) == [
        (slice(0, 2), slice(0, 5)),
        (slice(2, 3), slice(0, 4)),
    ]


def test_passes_are_held_as_far_as_there_is_room():
    assert held_passes(0, 0, HELD_BYTES // 3, 5) == 3
    assert held_passes(0, 0, HELD_BYTES + 1, 5) == 1
    assert held_passes(0, 0, 1, 5) == 5
    assert held_passes(60 * HELD_BYTES, 4 * HELD_BYTES, 4 * HELD_BYTES, 5) == 4


def test_products_are_narrowed_for_the_block_alone():
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    with narrow_products(torch.device("cuda"), narrow=True):
        assert products.fp32_precision == "tf32"
    assert products.fp32_precision == before
    for device, narrow in (("cpu", True), ("cuda", False)):
        with narrow_products(torch.device(device), narrow=narrow):
            assert products.fp32_precision == before
