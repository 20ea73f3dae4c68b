import pytest
import torch

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Layout
from circuits.importance import (
    LayerImportance,
    critical_layers,
    importance_from_circuit,
    importance_from_edges,
)


def test_an_edge_counts_half_at_either_end():
    weights = {"input->m0": 1.0, "a0.h3->a1.h2<q>": -4.0, "a0.h1->m0": 2.0, "m2->logits": 6.0}
    importance = importance_from_edges(weights, 4)
    assert importance.values == (0.5 + 2 + 1 + 1, 2, 3, 0)
    assert importance.ranking == (0, 2, 1, 3)
    assert critical_layers(importance, 2) == (0, 2)
    assert critical_layers(importance, 3) == importance.largest(4) == (0, 1, 2)


def test_importance_of_a_circuit():
    layout = Layout(n_layers=3, n_heads=2, n_kv_heads=2)
    edges = ["input->a0.h1<v>", "a0.h1->m2", "m2->logits"]
    bare = Circuit.of(layout, edges)
    assert importance_from_circuit(bare).values == (1.0, 0.0, 1.0)
    scores = torch.zeros(layout.shape)
    scores[layout.edge("a0.h1->m2")] = -5
    scored = importance_from_circuit(Circuit(layout, bare.mask, scores))
    assert scored.values == (2.5, 0.0, 2.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LayerImportance("x", ()), "no layers"),
        (lambda: LayerImportance("x", (1.0, -1.0)), "layer 1 is -1.0"),
        (lambda: LayerImportance("x", (float("nan"),)), "layer 0 is nan"),
        (lambda: critical_layers(LayerImportance("x", (1.0,)), 2), "2 critical layers of 1"),
        (lambda: critical_layers(LayerImportance("x", (0.0, 0.0)), 1), "none is critical"),
        (
            lambda: critical_layers(LayerImportance("x", (0.0, 0.0, 0.0, 9.4)), 2),
            "2 critical layers asked for, and only 1 of 4 have any importance; ask for at most 1",
        ),
        (lambda: importance_from_edges({"m0": 1.0}, 2), "no '->'"),
        (lambda: importance_from_edges({"m0->b3": 1.0}, 2), "'b3' is not a node"),
        (lambda: importance_from_edges({"m0->m2": 1.0}, 2), "only 2 layers"),
    ],
)
def test_importance_refusals(call, message):
    with pytest.raises(CircuitsError, match=message):
        call()
