from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session")
def noisy():
    """(layout, means, n, noise, seed) -> per-example scores about the means."""

    def make(layout, means, n=40, noise=1.0, seed=0):
        draw = torch.Generator().manual_seed(seed)
        return means + noise * torch.randn(n, *layout.shape, generator=draw)

    return make
