"""The tests' own checks of shapes see what jaxtyping's hook sees."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from shapes import CHECKED, begin, check
from torch import Tensor


@check
def product(
    a: Float[Tensor, "rows inner"], b: Float[Tensor, "inner columns"]
) -> Float[Tensor, "rows columns"]:
    return a @ b if a.shape[0] != 5 else a


def test_dimensions_agree_within_a_call_and_with_the_result():
    assert product(torch.ones(2, 3), torch.ones(3, 4)).shape == (2, 4)
    with pytest.raises(BeartypeCallHintViolation):
        product(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(BeartypeCallHintViolation):  # returns (5, 3)
        product(torch.ones(5, 3), torch.ones(3, 4))


def test_each_closure_over_one_code_is_called_itself():
    def adder(amount: int):
        @check
        def add(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
            return x + amount

        return add

    first, second = adder(1), adder(10)
    assert first(torch.zeros(1)).item() == 1
    assert second(torch.zeros(1)).item() == 10
    assert first(torch.zeros(1)).item() == 1
    with pytest.raises(BeartypeCallHintViolation):
        second(torch.zeros(1, 1))


def test_each_test_checks_the_first_calls_of_a_function():
    for _ in range(CHECKED):
        product(torch.ones(2, 3), torch.ones(3, 4))
    assert product(torch.ones(5, 3), torch.ones(3, 4)).shape == (5, 3)
    begin()
    with pytest.raises(BeartypeCallHintViolation):
        product(torch.ones(5, 3), torch.ones(3, 4))


def test_two_dataclasses_with_equal_code_keep_their_own_fields():
    @check
    @dataclasses.dataclass
    class First:
        value: int

    @check
    @dataclasses.dataclass
    class Second:
        value: str

    assert First(1).value == 1
    assert Second("a").value == "a"
    with pytest.raises(BeartypeCallHintViolation):
        First("a")
    with pytest.raises(BeartypeCallHintViolation):
        Second(1)


def test_the_packages_are_checked():
    from circuits.statistics import benjamini_hochberg

    assert benjamini_hochberg(torch.tensor([0.01])).shape == (1,)
    with pytest.raises(BeartypeCallHintViolation):
        benjamini_hochberg(torch.ones(2, 2))
