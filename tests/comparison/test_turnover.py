import pytest
import torch
from oracles.touched_nodes import touched

from circuits.comparison.turnover import EdgeNodes, counts_within, turnover
from circuits.graph import Circuit, Layout


def ranked(layout, *edges):
    """Places in a ranking that begins with these edges."""
    mask = layout.mask
    names = [layout.edge_name(*place) for place in mask.nonzero().tolist()]
    order = [names.index(edge) for edge in edges]
    order += [place for place in range(len(names)) if place not in set(order)]
    places = torch.empty(len(names), dtype=torch.int32)
    places[order] = torch.arange(len(names), dtype=torch.int32)
    return places[None]


def entered(layout, places, sizes):
    """Of edges, as a matrix, and of nodes, the number of the first circuit that holds each."""
    first = torch.searchsorted(torch.tensor(sizes), places.long(), right=True).byte()
    nodes_of, never = EdgeNodes.of(layout), len(sizes)
    edges = nodes_of.matrix(first, never)
    return edges, nodes_of.entry(edges, never)


def split(layout, a, b, *sizes):
    """Shared and rewired edges at each size."""
    (edges_a, nodes_a), (edges_b, nodes_b) = (entered(layout, side, sizes) for side in (a, b))
    joined = EdgeNodes.of(layout).joined(nodes_a, nodes_b)
    shared, rewired = turnover(edges_a, edges_b, joined, len(sizes))
    return shared[0].tolist(), rewired[0].tolist()


def test_a_new_node_brings_its_edges(layout):
    before = ranked(layout, "input->m0", "m0->logits", "input->logits", "input->m1")
    after = ranked(layout, "input->m0", "m0->logits", "m0->m2", "m2->logits")
    # m1 went with input->m1 and m2 came with its two; input->logits joins nodes of both.
    assert split(layout, before, after, 4) == ([2], [1])


def test_rewiring_among_the_same_nodes(layout):
    before = ranked(layout, "input->m0", "m0->m1", "m1->logits", "m0->logits")
    after = ranked(layout, "input->m0", "m0->m1", "m1->logits", "input->m1")
    assert split(layout, before, after, 4) == ([3], [2])


def test_every_size_from_one_ranking(layout):
    before = ranked(layout, "input->m0", "m0->m1", "m1->logits", "m0->logits")
    after = ranked(layout, "input->m0", "m1->logits", "m0->m2", "m0->m1")
    # At 2: m0->m1 ends in m1, which after has too; m1->logits ends in logits, which before lacks.
    assert split(layout, before, after, 1, 2, 3, 4) == ([1, 1, 2, 3], [0, 1, 1, 1])


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_against_sets_of_names(kv_heads):
    layout = Layout(n_layers=2, n_heads=2, n_kv_heads=kv_heads)
    draw = torch.Generator().manual_seed(0)
    nodes_of = EdgeNodes.of(layout)
    places = layout.mask.nonzero().tolist()
    sizes = (1, 3, 6, 12, 20)
    some = False
    for _ in range(25):
        orders = [torch.randperm(len(places), generator=draw) for _ in range(2)]
        a, b = (order.argsort().int()[None] for order in orders)
        both = [entered(layout, side, sizes) for side in (a, b)]
        edges, entries = zip(*both, strict=True)
        shared, rewired = turnover(*edges, nodes_of.joined(*entries), len(sizes))
        for column, size in enumerate(sizes):
            circuits = [
                Circuit.of(layout, [layout.edge_name(*places[edge]) for edge in order[:size]])
                for order in orders
            ]
            for one, entry in zip(circuits, entries, strict=True):
                inside = (entry[0] <= column).tolist()
                names = {name for name, on in zip(layout.nodes, inside, strict=True) if on}
                assert names == touched(one)
            left, right = (set(one.edges) for one in circuits)
            nodes = [touched(one) for one in circuits]

            def kept(edge, nodes=nodes, layout=layout):
                row, column = layout.edge(edge)
                reads = {layout.sources[place] for place in layout.feeds[column]} or {"logits"}
                return all(layout.sources[row] in side and reads & side for side in nodes)

            assert int(shared[0, column]) == len(left & right)
            assert int(rewired[0, column]) == sum(kept(edge) for edge in left ^ right)
            some |= 0 < int(rewired[0, column]) < len(left ^ right)
    assert some


def test_counts_within():
    entry = torch.tensor([[0, 3, 1, 2], [9, 9, 9, 0]], dtype=torch.uint8)
    assert counts_within(entry, 3).tolist() == [[1, 2, 3], [1, 1, 1]]
    assert counts_within(entry.unflatten(1, (2, 2)), 3).tolist() == [[1, 2, 3], [1, 1, 1]]
