import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import kendalltau

from circuits.errors import CircuitsError
from circuits.graph import Layout
from circuits.model_diff.criteria import LayerValues, critical_layers, edge_change, kendall
from circuits.model_diff.diff import ModelDiff


def test_tau_is_scipys_with_and_without_ties():
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(4, (30, 6), generator=draw).double()
    y = torch.randint(5, (30, 6), generator=draw).double()
    expected = torch.tensor(
        [kendalltau(*rows).statistic for rows in zip(x, y, strict=True)], dtype=torch.float64
    )
    assert expected.nan_to_num().abs().max() > 0.5
    assert torch.allclose(kendall(x, y), expected, equal_nan=True)
    order = torch.arange(12.0)[None]
    assert float(kendall(order, order)) == 1.0 and float(kendall(order, -order)) == -1.0
    assert math.isnan(float(kendall(order, torch.ones(1, 12))))


def values(value, noise=0.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    value = torch.as_tensor(value, dtype=torch.float64)
    resampled = value + noise * torch.randn(500, len(value), generator=draw)
    return LayerValues(value, value, value, resampled, 10)


def test_agreement_and_its_interval():
    up = list(range(12))
    swapped = [1, 0, *range(2, 12)]
    other = [5, 1, 8, 3, 11, 0, 7, 2, 10, 4, 9, 6]
    found = critical_layers({"a": values(up), "b": values(swapped), "c": values(other, 2.0)})
    assert float(found.tau["a", "b"].value) == pytest.approx(kendalltau(up, swapped).statistic)
    assert float(found.tau["a", "b"].low) == pytest.approx(kendalltau(up, swapped).statistic)
    assert found.p["a", "b"] < 0.001 and found.p["a", "c"] > 0.05
    noisy = found.tau["a", "c"]
    assert -1 <= float(noisy.low) < float(noisy.value) < float(noisy.high) <= 1
    record = found.to_dict()
    assert record["layers"]["a"]["critical"] == [9, 10, 11]
    assert record["layers"]["a"]["inclusion"] == [0.0] * 9 + [1.0] * 3
    assert sum(record["layers"]["c"]["inclusion"]) == pytest.approx(3)


def test_chance_agreement_is_uniform():
    """p of unrelated rankings of 8 layers: at most 5 % below .05."""
    draw = torch.Generator().manual_seed(0)
    small = 0
    for _ in range(100):
        a, b = torch.rand(2, 8, generator=draw).tolist()
        small += critical_layers({"a": values(a), "b": values(b)}).p["a", "b"] <= 0.05
    assert small <= 10


def test_criteria_of_internals_by_hand():
    draw = torch.Generator().manual_seed(0)
    kl = torch.rand(6, 4, 2, generator=draw)
    entropy, before = torch.rand(2, 6, 4, 2, generator=draw)
    layers = torch.rand(5, 6, 4, generator=draw)
    found = ModelDiff("a", "b", kl, entropy, before, *layers, n_resamples=50)
    for layer in range(4):
        expected = [
            sum(float(kl[d, layer, h]) for d in range(6) for h in range(2)) / 12,
            sum(
                abs(sum(float(entropy[d, layer, h] - before[d, layer, h]) for d in range(6)) / 6)
                for h in range(2)
            )
            / 2,
            sum(float(layers[4, d, layer]) for d in range(6)) / 6,
        ]
        got = [
            found.layer_importance(c)[layer] for c in ("attention-kl", "entropy", "hidden-state")
        ]
        assert got == pytest.approx(expected)
    with pytest.raises(CircuitsError, match="unknown criterion 'edges'"):
        found.layer_importance("edges")
    with pytest.raises(CircuitsError, match="3 layers for a model of 4"):
        found.critical_layers(values([1.0, 2.0, 3.0]))
    both = found.critical_layers(values([4.0, 3.0, 2.0, 1.0])).to_dict()
    assert list(both["layers"]) == ["attention-kl", "entropy", "hidden-state", "edges"]
    assert len(both["agreement"]) == 6


def test_edges_count_half_for_each_end(layout, make_scores):
    draw = torch.Generator().manual_seed(0)
    before = torch.randn(8, *layout.shape, generator=draw)
    after = before.clone()
    for name, change in (("a0.h1->m2", 4.0), ("input->a1.h0<q>", -2.0), ("m1->logits", 1.0)):
        row, column = layout.edge(name)
        after[:, row, column] += change
    found = edge_change(make_scores(layout, after), make_scores(layout, before), n_resamples=20)
    assert found.value.tolist() == pytest.approx([2.0, 1.5, 2.0], abs=1e-5)
    assert found.resampled.shape == (20, 3)
    assert torch.allclose(found.resampled, found.value.expand(20, 3), atol=1e-5)


def test_edge_scores_that_cannot_be_compared_are_refused(layout, make_scores):
    one = make_scores(layout, torch.ones(9, *layout.shape))
    other = Layout(n_layers=2, n_heads=2, n_kv_heads=1)
    with pytest.raises(CircuitsError, match=r"2 layers.*3 layers"):
        edge_change(one, make_scores(other, torch.ones(9, *other.shape)))
    with pytest.raises(CircuitsError, match=r"old and new were scored on different examples"):
        elsewhere = make_scores(layout, torch.ones(9, *layout.shape), fingerprint="others")
        edge_change(one, elsewhere, names=("new", "old"))
    with pytest.raises(CircuitsError, match="--per-example"):
        edge_change(one, replace(one, per_example=None))


def test_a_layer_that_did_not_change_is_not_critical():
    """Two of eight layers are asked for, and one of them changed."""
    found = LayerValues.of_means(
        torch.eye(8)[7].expand(6, 8) * torch.rand(6, 1), n_resamples=50, seed=0
    ).to_dict(2)
    assert found["critical"] == [7] and found["inclusion"] == [0.0] * 7 + [1.0]
    assert found["examples"] == 6


@pytest.mark.parametrize("moved", [0.0, 0.05])
def test_intervals_of_the_change_of_edges_cover_its_own_mean(moved, make_scores):
    """Noise lifts a sum of absolute means. 40 samples: 95 % less three standard errors is 85 %."""
    layout = Layout(n_layers=4, n_heads=4, n_kv_heads=4)
    draw = torch.Generator().manual_seed(0)
    true = moved * torch.randn(layout.shape, generator=draw)
    nothing = make_scores(layout, torch.zeros(30, *layout.shape))
    found = []
    for _ in range(40):
        sample = true + 0.2 * torch.randn(30, *layout.shape, generator=draw)
        found.append(edge_change(make_scores(layout, sample), nothing, n_resamples=1))
    mean = torch.stack([one.value for one in found]).mean(dim=0)
    held = torch.stack([(one.low <= mean) & (mean <= one.high) for one in found]).double()
    assert float(mean.min()) > 1 and float(held.mean()) >= 0.9
    width = torch.stack([one.high - one.low for one in found]).mean(dim=0)
    right = 3.92 * torch.stack([one.value for one in found]).std(dim=0)
    assert float((width / right).mean()) < 1.5
