"""Hard-concrete gates against their distribution and a finite difference."""

import pytest
import torch

from circuits.masks.hard_concrete import p_open, sampled, settled, shifted_to
from circuits.masks.size_constraint import penalty, target
from circuits.options.masks import MaskConfig

LOGITS = torch.tensor([-4.0, -1.0, 0.0, 1.5, 5.0])


def draw():
    return torch.Generator().manual_seed(3)


def test_as_many_are_open_as_the_probability_says():
    many = LOGITS.repeat_interleave(20_000)
    gates = sampled(many, draw()).view(5, -1)
    assert gates.min() == 0 and gates.max() == 1
    often = (gates > 0).float().mean(dim=1)
    assert torch.allclose(often, p_open(LOGITS), atol=0.01)
    assert float(((gates > 0) & (gates < 1)).float().mean()) > 0.1, "some are between"


def test_the_gradient_is_the_slope_for_the_same_noise():
    logits = LOGITS.double().repeat(200).requires_grad_()
    sampled(logits, draw()).sum().backward()
    step = 1e-4
    up, down = (sampled(logits.detach() + shift, draw()) for shift in (step, -step))
    slope = (up - down) / (2 * step)
    inside = (slope > 0) & (down > 1e-3) & (up < 1 - 1e-3)
    assert inside.sum() > 100 and float(slope.max()) > 0.3
    assert torch.allclose(logits.grad[inside], slope[inside], rtol=1e-4)


def test_settled_gates_are_the_best_and_have_the_slope_of_undrawn_ones():
    one, other = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    gates, soft = settled(one, 2), sampled(other, draw(), noise=0.0)
    assert gates.tolist() == [0, 0, 0, 1, 1] and 0 < float(soft.detach()[2]) < 1
    weights = torch.arange(1.0, 6.0)
    (gates * weights).sum().backward()
    (soft * weights).sum().backward()
    assert torch.allclose(one.grad, other.grad) and float(one.grad[2]) > 0.5


@pytest.mark.parametrize("size", [0.5, 2.0, 4.7])
def test_shifted_logits_open_as_many_as_asked(size):
    moved = shifted_to(LOGITS, size)
    assert float(p_open(moved).sum()) == pytest.approx(size, rel=1e-3)
    assert torch.allclose(moved - LOGITS, (moved - LOGITS)[0].expand(5), atol=1e-5)


def test_the_size_falls_and_the_penalty_holds_it():
    config = MaskConfig(10, start=4.0, closing=0.5)
    assert [target(config, share) for share in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(
        [40, 20, 10, 10]
    )
    n_open, multipliers = torch.tensor(15.0, requires_grad=True), torch.tensor([2.0, 3.0])
    multipliers.requires_grad_()
    value = penalty(n_open, 10.0, multipliers)
    assert float(value.detach()) == pytest.approx(2 * 0.5 + 3 * 0.25)
    value.backward()
    assert float(n_open.grad) == pytest.approx((2 + 2 * 3 * 0.5) / 10)
    assert multipliers.grad.tolist() == pytest.approx([0.5, 0.25])
