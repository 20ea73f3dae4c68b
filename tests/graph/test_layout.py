"""Names and positions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuits.errors import CircuitsError
from circuits.graph import Layout, Node

GPT2_SMALL = Layout(12, 12, 12)

layouts = st.builds(
    lambda layers, kv, group, parallel: Layout(layers, kv * group, kv, parallel),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
)


def test_gpt2_small_has_the_known_counts():
    assert GPT2_SMALL.shape == (157, 445)
    assert GPT2_SMALL.n_edges == 32491
    assert len(GPT2_SMALL.nodes) == 158
    assert len(set(GPT2_SMALL.sources)) == 157 and len(set(GPT2_SMALL.readers)) == 445


def test_names_stand_where_the_field_puts_them():
    assert GPT2_SMALL.sources[:3] == ("input", "a0.h0", "a0.h1")
    assert GPT2_SMALL.sources[13] == "m0" and GPT2_SMALL.readers[-1] == "logits"
    assert GPT2_SMALL.readers[0] == "a0.h0<q>" and GPT2_SMALL.readers[36] == "m0"
    grouped = Layout(2, 4, 2)
    assert "a1.kv1<k>" in grouped.readers and "a1.h3<k>" not in grouped.readers
    assert grouped.feeds[grouped.readers.index("a1.kv1<k>")] == (8, 9)
    assert [grouped.sources[row] for row in (8, 9)] == ["a1.h2", "a1.h3"]


@given(layouts)
def test_every_edge_goes_forward_and_round_trips(layout):
    order = {"input": -1.0, "logits": 1e9}

    def time(node):
        if node.name in order:
            return order[node.name]
        return 2 * node.layer + (1 if node.kind == "mlp" else 0)

    for row, source in enumerate(layout.source_nodes):
        for column, reader in enumerate(layout.reader_nodes):
            reads_at = time(reader)
            if layout.parallel and reader.kind == "mlp":
                reads_at = 2 * reader.layer
            forward = time(source) < reads_at
            assert bool(layout.mask[row, column]) == forward, (source, reader)
            if forward:
                assert layout.edge(layout.edge_name(row, column)) == (row, column)
    assert Layout.from_dict(layout.to_dict()) == layout


@given(layouts)
def test_positions_agree_with_names(layout):
    for layer in range(layout.n_layers):
        heads = layout.sources[layout.head_rows(layer)]
        assert heads == tuple(f"a{layer}.h{head}" for head in range(layout.n_heads))
        assert layout.sources[layout.mlp_row(layer)] == f"m{layer}"
        assert layout.readers[layout.mlp_column(layer)] == f"m{layer}"
        for port in "qkv":
            names = layout.readers[layout.port_columns(layer, port)]
            assert all(name.endswith(f"<{port}>") for name in names)
    assert layout.readers[layout.logits_column] == "logits"


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ("m0", "is not an edge"),
        ("m99->logits", "no source 'm99'"),
        ("m0->a1.h3", "a head's reader is"),
        ("m0->a1.kv0<k>", "no reader"),
        ("m1->m1", "computed after"),
        ("a0.h0->a0.h1<q>", "computed after"),
    ],
)
def test_bad_edges_are_refused(edge, message):
    with pytest.raises(CircuitsError, match=message):
        GPT2_SMALL.edge(edge)


@pytest.mark.parametrize("name", ["b3", "a1", "a1.h2<z>", "m", ""])
def test_bad_nodes_are_refused(name):
    with pytest.raises(CircuitsError, match="is not a node"):
        Node.parse(name)


def test_bad_sizes_are_refused():
    with pytest.raises(CircuitsError, match="12 heads cannot share 5 KV heads"):
        Layout(2, 12, 5)
    with pytest.raises(CircuitsError, match="at least 1"):
        Layout(0, 1, 1)
