"""Ranks by importance: in its proportion, and never more parameters than asked for."""

from __future__ import annotations

import itertools

import pytest

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Layout
from circuits.importance import (
    MapImportance,
    RoleImportance,
    importance_from_circuit,
    importance_of_maps,
)
from circuits.tuning.projections import LinearMap, Projections
from circuits.tuning.ranks import ranks_by_importance

LAYER = {
    "attn.qkv": LinearMap(8, 24, ("q", "k", "v")),
    "attn.o": LinearMap(8, 8, ("attention-output",)),
    "mlp.gate": LinearMap(8, 24, ("mlp-in",)),
    "mlp.up": LinearMap(8, 8, ("mlp-in",)),
    "mlp.down": LinearMap(24, 8, ("mlp-out",)),
}
TWO = Projections("layers", (LAYER, LAYER), conv1d=False)


def importance(**roles):
    known = {name.replace("_", "-"): value for name, value in roles.items()}
    return MapImportance("x", 2, tuple(RoleImportance(1, name, v) for name, v in known.items()))


def test_parameters_are_in_proportion():
    given = importance(q=(1.0, 1.0), v=(2.0,), attention_output=(4.0,), mlp_in=(4.0,))
    assert ranks_by_importance(TWO, given, 3 * 64) == {
        "layers.1.attn.qkv": 2,  # 64 parameters of 32 a rank
        "layers.1.attn.o": 4,  # 64 of 16
        "layers.1.mlp.gate": 1,  # gate and up share 64: 42.7 of 32, and 21.3 of 16
        "layers.1.mlp.up": 2,  # what rounding took goes to the one it took most of
    }


def test_what_a_map_cannot_take_goes_to_the_others():
    given = importance(attention_output=(100.0,), q=(1.0,), mlp_out=(1.0,))
    assert ranks_by_importance(TWO, given, 8 * 16 + 4 * 32) == {
        "layers.1.attn.o": 8,
        "layers.1.attn.qkv": 2,
        "layers.1.mlp.down": 2,
    }
    everything = ranks_by_importance(TWO, given, 10**6)
    assert set(everything.values()) == {8}, "a map has no more than its own rank"


@pytest.mark.parametrize("dora", [False, True])
def test_there_are_never_more_parameters(dora):
    own = Projections("layers", (LAYER, LAYER), conv1d=False, dora=dora)
    for budget, q, out, inner in itertools.product((40, 100, 250), *[(0.0, 0.3, 7.0)] * 3):
        given = importance(q=(q,), attention_output=(out,), mlp_in=(inner,), k=(0.1,))
        ranks = ranks_by_importance(own, given, budget)
        assert min(ranks.values()) >= 1
        assert own.count(ranks) <= max(budget, 56), "56 is rank 1 on the first map with DoRA"
        if not dora and budget >= 100:
            assert own.count(ranks) > budget - 32, "nor is room for another rank left"


def test_too_little_for_one_rank_still_gives_one():
    given = importance(q=(1.0,), mlp_out=(3.0,))
    assert ranks_by_importance(TWO, given, 5) == {"layers.1.mlp.down": 1}


def test_refusals():
    with pytest.raises(CircuitsError, match="importance of 2 layers for a model of 1"):
        ranks_by_importance(Projections("layers", (LAYER,), conv1d=False), importance(), 100)
    with pytest.raises(CircuitsError, match="no map that may get an adapter has any importance"):
        ranks_by_importance(TWO.only(("mlp",)), importance(q=(1.0,)), 100)
    with pytest.raises(CircuitsError, match=r"importance of q in layer 1 is \[-1.0\]"):
        importance(q=(-1.0,))


def test_a_circuit_runs_through_its_maps():
    layout = Layout(3, 4, 2)
    circuit = Circuit.of(
        layout, ["input->a1.h0<q>", "input->a1.kv1<k>", "a1.h3->m1", "m1->logits", "a1.h3->m2"]
    )
    found = importance_of_maps(circuit)
    kv = layout.n_kv_heads
    assert {(one.layer, one.role): one.heads for one in found.roles} == {
        (1, "q"): (0.5, *[0.0] * (layout.n_heads - 1)),
        (1, "k"): (0.0, 0.5, *[0.0] * (kv - 2)),
        (1, "attention-output"): tuple(float(head == 3) for head in range(layout.n_heads)),
        (1, "mlp-in"): (0.5,),
        (1, "mlp-out"): (0.5,),
        (2, "mlp-in"): (0.5,),
    }
    layers = importance_from_circuit(circuit).values
    for layer, total in enumerate(layers):
        assert total == sum(one.total for one in found.roles if one.layer == layer)
    with pytest.raises(CircuitsError, match="encoder-decoder"):
        importance_of_maps(Circuit.of(Layout(2, 4, 4, n_encoder_layers=2), ["input->x1.h0<q>"]))
