from __future__ import annotations

import pytest
import torch

from circuits.graph import EdgeScores, Layout


@pytest.fixture(scope="session")
def layout():
    return Layout(n_layers=3, n_heads=2, n_kv_heads=1)


@pytest.fixture(scope="session")
def make_scores():
    """per-example tensor -> EdgeScores of it; impossible edges are cleared."""

    def make(layout, values, fingerprint="pairs"):
        values = (values * layout.mask).float()
        details = {"data": {"fingerprint": fingerprint}}
        return EdgeScores(values.mean(dim=0), layout, "eap-ig", details, values)

    return make


@pytest.fixture(scope="session")
def noisy():
    """(layout, means, n, noise, seed) -> per-example scores about the means."""

    def make(layout, means, n=40, noise=1.0, seed=0):
        draw = torch.Generator().manual_seed(seed)
        return means + noise * torch.randn(n, *layout.shape, generator=draw)

    return make
