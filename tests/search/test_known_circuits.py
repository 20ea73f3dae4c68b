"""ACDC and EAP-IG on models whose circuit was written into the weights by hand."""

import pytest
from known.build import induction, lookup

import circuits
from circuits.search import AcdcConfig, acdc


@pytest.mark.parametrize("build", [induction, lookup])
@pytest.mark.parametrize(
    ("config", "metric"),
    [
        (AcdcConfig(0.5), None),
        (AcdcConfig(0.05, relative_to="current"), None),
        (AcdcConfig(0.1, criterion="signed"), "kl-divergence"),
        (AcdcConfig(0.02), "accuracy"),
    ],
    ids=["0", "1", "2", "3"],
)
@pytest.mark.exhaustive_but("1-induction")
def test_acdc_and_eap_ig_agree_with_the_construction(build, config, metric):
    known = build(24, seed=0)
    found = acdc(known.model, known.pairs, config, metric=metric)
    assert set(found.circuit.edges) == known.edges
    scores = circuits.attribute(known.model, known.pairs, "eap-ig", steps=20)
    best = circuits.select(scores, size=len(known.edges))
    assert set(best.edges) == known.edges


@pytest.mark.parametrize("build", [induction, lookup])
def test_nodes_of_the_construction(build):
    known = build(24, seed=1)
    found = acdc(known.model, known.pairs, AcdcConfig(0.05, relative_to="model", level="node"))
    writing = {edge.partition("->")[0] for edge in known.edges}
    assert set(found.nodes) == writing - {"input"}
