import pytest
import torch

from circuits.evolution.similarity import jaccard
from circuits.evolution.turnover import Ends, turnover
from circuits.graph import Circuit, Layout


def of(layout, *edges):
    return Circuit.of(layout, edges).mask[None]


def split(ends, a, b):
    return turnover(a, b, ends.within(ends.nodes(a)) & ends.within(ends.nodes(b)))


def test_a_new_node_brings_its_edges(layout):
    before = of(layout, "input->m0", "m0->logits")
    after = of(layout, "input->m0", "m0->logits", "m0->m1", "m1->logits")
    driven, rewired = split(Ends.of(layout), before, after)
    assert (float(driven), float(rewired)) == (0.5, 0.0)


def test_rewiring_among_the_same_nodes(layout):
    before = of(layout, "input->m0", "m0->m1", "m1->logits", "m0->logits")
    after = of(layout, "input->m0", "m0->m1", "m1->logits", "input->m1")
    driven, rewired = split(Ends.of(layout), before, after)
    assert (float(driven), float(rewired)) == (0.0, pytest.approx(2 / 5))


def test_both_at_once(layout):
    before = of(layout, "input->m0", "m0->m1", "m1->logits")
    after = of(layout, "input->m0", "m0->m1", "m0->logits", "m1->m2", "m2->logits")
    # m1->logits went and m0->logits came among present nodes; m2 brought two edges.
    driven, rewired = split(Ends.of(layout), before, after)
    assert (float(driven), float(rewired)) == (pytest.approx(2 / 6), pytest.approx(2 / 6))


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_against_sets_of_names(kv_heads):
    layout = Layout(n_layers=2, n_heads=2, n_kv_heads=kv_heads)
    draw = torch.Generator().manual_seed(0)
    ends = Ends.of(layout)
    for _ in range(40):
        circuits = []
        for _ in range(2):
            keep = torch.rand(layout.shape, generator=draw) < 0.08
            circuits.append(Circuit(layout, keep & layout.mask))
        a, b = (one.mask[None] for one in circuits)
        for one, mask in zip(circuits, (a, b), strict=True):
            names = [name for name, on in zip(layout.nodes, ends.nodes(mask)[0], strict=True) if on]
            assert tuple(names) == one.nodes
        left, right = (set(one.edges) for one in circuits)
        nodes = [set(one.nodes) for one in circuits]

        def kept(edge, nodes=nodes, layout=layout):
            row, column = layout.edge(edge)
            reads = {layout.sources[place] for place in layout.feeds[column]} or {"logits"}
            return all(layout.sources[row] in side and reads & side for side in nodes)

        changed = left ^ right
        rewired = sum(kept(edge) for edge in changed)
        found = [float(value) for value in split(ends, a, b)]
        either = max(1, len(left | right))
        assert found == [
            pytest.approx((len(changed) - rewired) / either),
            pytest.approx(rewired / either),
        ]
        assert sum(found) == pytest.approx(1 - float(jaccard(a.flatten(), b.flatten())))
