"""Sums over stretches of edges are those over edges one by one."""

import pytest
import torch

from circuits.graph import Layout
from circuits.graph.edge_sums import add_by_reader, add_by_source, stretches

LAYOUTS = {
    "plain": Layout(3, 4, 4),
    "grouped": Layout(2, 4, 2),
    "parallel": Layout(2, 2, 2, parallel=True),
    "encoder-decoder": Layout(2, 2, 2, n_encoder_layers=2),
    "bias": Layout(2, 2, 2, n_encoder_layers=1, bias=True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_stretches_are_all_edges_in_order(name):
    layout = LAYOUTS[name]
    places = [
        [stretch.source, stretch.reader + step]
        for stretch in stretches(layout)
        for step in range(stretch.count)
    ]
    assert places == layout.mask.nonzero().tolist()
    firsts = [stretch.first for stretch in stretches(layout)]
    counts = [stretch.count for stretch in stretches(layout)]
    assert firsts == [sum(counts[:number]) for number in range(len(counts))]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("width", [1, 7, 10_000])
def test_sums_are_those_of_single_edges(name, width):
    layout = LAYOUTS[name]
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(3, layout.n_edges, generator=draw, dtype=torch.float64)
    sources, readers = layout.shape
    by_source = torch.zeros(3, sources, dtype=torch.float64)
    by_reader = torch.zeros(3, readers, dtype=torch.float64)
    for start in range(0, layout.n_edges, width):
        edges = slice(start, min(start + width, layout.n_edges))
        add_by_source(by_source, layout, edges, values[:, edges])
        add_by_reader(by_reader, layout, edges, values[:, edges])
    for edge, (source, reader) in enumerate(layout.mask.nonzero().tolist()):
        by_source[:, source] -= values[:, edge]
        by_reader[:, reader] -= values[:, edge]
    assert values.abs().min() > 0
    assert by_source.abs().max() < 1e-12
    assert by_reader.abs().max() < 1e-12
