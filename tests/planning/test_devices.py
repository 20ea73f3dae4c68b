"""Devices from text."""

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.planning import Devices, guessed_rates


@pytest.mark.parametrize(
    ("text", "count", "size"),
    [
        ("24GB x 2", 2, 24e9),
        ("24GBx2", 2, 24e9),
        ("80GB", 1, 80e9),
        (" 16 GiB X 8 ", 8, 16 * 2**30),
        ("24GB*4", 4, 24e9),
    ],
)
def test_gpus(text, count, size):
    found = Devices.parse(text)
    assert (found.count, found.bytes_each, found.kind) == (count, size, "cuda")
    assert found.overhead > 0


def test_the_cpu_is_this_machines():
    found = Devices.parse("CPU")
    assert (found.count, found.kind) == (1, "cpu")
    assert found.bytes_each > found.overhead > 1e8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "devices '': write 24GB, 24GB x 2, or cpu"),
        ("24GB x", "write 24GB, 24GB x 2, or cpu"),
        ("24GB x 0", "'0' is no number of devices"),
        ("24GB x two", "'two' is no number of devices"),
        ("24GB x 1.5", "'1.5' is no number of devices"),
        ("two", "'two' is no amount of memory"),
        ("2 x 24GB", "'24GB' is no number of devices"),
        ("cpu x 2", "there is one CPU"),
        ("24GB x 2 x 3", "write 24GB"),
    ],
)
def test_other_text_is_refused_in_a_line(text, message):
    with pytest.raises(CircuitsError, match=r"^devices ") as refused:
        Devices.parse(text)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_narrow_types_are_multiplied_faster():
    wide, half = (guessed_rates(dtype) for dtype in (torch.float32, torch.bfloat16))
    assert half.matmul > wide.matmul and half.launch == wide.launch > 0
