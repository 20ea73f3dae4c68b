"""Operations whose outputs are remembered give what they would give if they were called."""

import pytest
import torch
from conftest import CONFIGS

from circuits.planning import counter
from circuits.planning.passes import Shape, count_passes
from circuits.planning.remembered import Remembered


class _Called:
    """Remembers nothing."""

    def output(self, function, args, kwargs):
        return function(*args, **kwargs)


SETTINGS = ({"recompute": True}, {"quantize": "int8"}, {"trains": "lora"})
# Each architecture in one way, and each way with many architectures.
CASES = [pytest.param(name, SETTINGS[i % 3], id=name) for i, name in enumerate(CONFIGS)]


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.exhaustive_but("gpt2", "llama", "gemma2")
def test_passes_are_the_same_without_it(name, settings, monkeypatch):
    config, shape = CONFIGS[name](), Shape(3, 48, padded=True, shared=0)
    found = count_passes(config, shape, **settings)
    monkeypatch.setattr(counter, "Remembered", _Called)
    assert count_passes(config, shape, **settings) == found
    assert found.step.peak > 100_000


def test_only_what_is_new_and_without_data_is_remembered():
    remembered, aten = Remembered(), torch.ops.aten
    x, y = torch.ones(2, 3, device="meta"), torch.ones(2, 3)
    first, second = (remembered.output(aten.mul.Tensor, (x, 2.0), {}) for _ in range(2))
    assert first.shape == second.shape and first.stride() == second.stride() and first is not second
    turned = remembered.output(aten.mul.Tensor, (x.T, 2.0), {})
    assert turned.shape == (3, 2) and turned.stride() == x.T.stride()
    assert remembered.output(aten.mul.Tensor, (x, 2), {}).dtype == torch.float32
    for _ in range(2):  # in place, the tensor itself; of data, the numbers
        assert remembered.output(aten.mul_.Tensor, (x, 2.0), {}) is x
        assert remembered.output(aten.mul.Tensor, (y, 3.0), {}).tolist() == [[3.0] * 3] * 2
    several = [remembered.output(aten.var_mean.correction, (x, [1]), {}) for _ in range(2)]
    assert [part.shape for part in several[1]] == [(2,), (2,)] == [p.shape for p in several[0]]
