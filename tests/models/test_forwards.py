"""Modules that run other code for a while."""

import pytest
import torch

from circuits.models.forwards import replaced_forwards


def test_modules_run_as_before_afterwards_whatever_happens():
    plain, wrapped = torch.nn.Identity(), torch.nn.Identity()
    wrapped.forward = lambda x: x + 1  # as accelerate does
    forwards = {module: lambda x: 10 * x for module in (plain, wrapped)}
    one = torch.ones(1)
    with pytest.raises(RuntimeError, match="half-way"), replaced_forwards(forwards):
        assert [float(plain(one)), float(wrapped(one))] == [10, 10]
        raise RuntimeError("half-way")
    assert [float(plain(one)), float(wrapped(one))] == [1, 2]
    assert "forward" not in vars(plain)
