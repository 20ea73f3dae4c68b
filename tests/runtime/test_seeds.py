"""Seeds of combinations of numbers."""

from types import SimpleNamespace

import torch

from circuits.runtime.seeds import mixed_seed
from circuits.tuning.trainer import _Schedule


def test_every_combination_draws_its_own_numbers():
    """Where a seed is put above 32 bits, torch draws what it draws without."""
    beside = [torch.Generator().manual_seed(5 + seed * 2**32) for seed in range(2)]
    assert torch.equal(*(torch.rand(3, generator=one) for one in beside))
    seeds = [mixed_seed(seed, step) for seed in range(20) for step in range(50)]
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)
    assert mixed_seed(1, 2) == mixed_seed(1, 2) != mixed_seed(2, 1)


def test_dropout_depends_on_the_seed_and_the_step(untyped):
    def drawn(seed, step):
        trainer = SimpleNamespace(
            settings=SimpleNamespace(seed=seed),
            args=SimpleNamespace(device=torch.device("cpu")),
        )
        _Schedule(trainer).on_step_begin(None, SimpleNamespace(global_step=step), None)
        return tuple(torch.rand(3).tolist())

    state = torch.get_rng_state()
    try:
        found = {drawn(seed, step) for seed in range(2) for step in range(3)}
        again = drawn(1, 2)
    finally:
        torch.set_rng_state(state)
    assert len(found) == 6 and again in found
