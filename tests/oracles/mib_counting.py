"""MIB's evaluation of a graph, edge by edge: a dictionary of names, loops, and no tensor tricks.

What is followed: eap's `Graph.apply_topn` and `prune`, and `evaluate_area_under_curve` of the
benchmark (linear axis). Nothing is shared with the package. A graph is a set of edge names; `nodes`
of an edge are the two names at its ends.
"""

from __future__ import annotations

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)


def all_edges(n_layers, n_heads):
    """Names of the edges of the ungrouped graph whose MLPs read their layer's heads."""
    edges, stream = [], ["input"]
    for layer in range(n_layers):
        heads = [f"a{layer}.h{head}" for head in range(n_heads)]
        edges += [f"{one}->{head}<{port}>" for one in stream for head in heads for port in "qkv"]
        stream += heads
        edges += [f"{one}->m{layer}" for one in stream]
        stream.append(f"m{layer}")
    return edges + [f"{one}->logits" for one in stream]


def ends(edge):
    source, reader = edge.split("->")
    return source, reader.partition("<")[0]


def top(scores, n, absolute):
    """The n best edges; scores have no ties."""
    worth = {edge: abs(score) if absolute else score for edge, score in scores.items()}
    return set(sorted(worth, key=worth.get, reverse=True)[:n])


def with_in_and_out(edges):
    """Nodes that an edge enters and an edge leaves; nothing has to enter the input."""
    leaving = {ends(edge)[0] for edge in edges}
    entered = {ends(edge)[1] for edge in edges} | {"input"}
    return leaving & entered


def remasked(edges, nodes):
    return {e for e in edges if ends(e)[0] in nodes and ends(e)[1] in nodes | {"logits"}}


def pruned_as_selected(edges):
    """`apply_topn` sets the nodes just as `prune` computes them, so that its loop ends at once."""
    return remasked(edges, with_in_and_out(edges))


def pruned_as_run(edges):
    """`evaluate_graph` prunes again, until no node goes any more."""
    while True:
        nodes = with_in_and_out(edges)
        after = remasked(edges, nodes)
        if after == edges:
            return edges
        edges = after


def areas(f):
    """The two areas, trapezoid by trapezoid, over the share of the edges."""
    under = from_1 = 0.0
    for i in range(len(f) - 1):
        width = SHARES[i + 1] - SHARES[i]
        under += width * (f[i] + f[i + 1]) / 2
        from_1 += width * (abs(1 - f[i]) + abs(1 - f[i + 1])) / 2
    return under, from_1
