"""Two models that differ in one head, edited by hand: comparing their scores finds it first."""

import pytest
import torch
from known.build import D_HEAD, D_MODEL, FEATURES, KNOWN

import circuits
from circuits.comparison import compare
from circuits.report import narrative


def weaken(known, factor):
    """The head that writes the answer writes less of it."""
    model = known.model.hf
    with torch.no_grad():
        if known.pairs.task == "lookup":
            columns = slice(2 * FEATURES, 3 * FEATURES)
            model.model.layers[1].self_attn.o_proj.weight[:, columns] *= factor
        else:
            model.transformer.h[1].attn.c_proj.weight[D_HEAD : 2 * D_HEAD] *= factor


def double(known):
    """Head 2 of layer 1, which did nothing, becomes a second head 1: an induction head."""
    attention = known.model.hf.transformer.h[1].attn
    with torch.no_grad():
        for start in (0, D_MODEL, 2 * D_MODEL):  # q, k, v
            columns = attention.c_attn.weight[:, start : start + D_MODEL]
            columns[:, 2 * D_HEAD : 3 * D_HEAD] = columns[:, D_HEAD : 2 * D_HEAD]
        rows = attention.c_proj.weight
        rows[2 * D_HEAD : 3 * D_HEAD] = rows[D_HEAD : 2 * D_HEAD]


EDITS = {
    "induction, halved": ("induction", lambda known: weaken(known, 0.5), "a1.h1"),
    "induction, silenced": ("induction", lambda known: weaken(known, 0.0), "a1.h1"),
    "induction, doubled": ("induction", double, "a1.h2"),
    "lookup, halved": ("lookup", lambda known: weaken(known, 0.5), "a1.h2"),
    "lookup, silenced": ("lookup", lambda known: weaken(known, 0.0), "a1.h2"),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.exhaustive_but("*silenced*")
def test_the_head_leads_the_nodes_and_its_edge_the_edges(name):
    """Of the heads and MLPs: what it passes on comes from the input, which changes as much."""
    kind, edit, head = EDITS[name]
    base, edited = KNOWN[kind](24, 0), KNOWN[kind](24, 0)
    edit(edited)
    scores = [
        circuits.attribute(known.model, known.pairs, per_example=True) for known in (base, edited)
    ]
    found = compare(scores, names=["base", "edited"], n_resamples=100).overall
    for table in (found.node_strengths, found.node_totals):
        assert next(node for node in table.changed if node != "input") == head
    assert found.edges.changed[0] == f"{head}->logits"
    assert f"at the edge {head}->logits" in narrative.comparison(found)
