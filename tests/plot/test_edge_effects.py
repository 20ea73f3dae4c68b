"""Effects of single edges, alone and with estimates beside them."""

import pytest
import torch

import circuits
from circuits.attribution.edge_effects import EdgeEffects
from circuits.graph import EdgeScores, Layout
from circuits.plot.figures.edge_effects import effect_dots, estimate_panels, farthest, wrong_sign

LAYOUT = Layout(n_layers=2, n_heads=2, n_kv_heads=2)
EDGES = ("input->m0", "m0->logits", "m1->logits", "m0->m1")


@pytest.fixture
def effects():
    """4, -1, an effect that is not told from 0, and .25; three examples."""
    values = torch.tensor([[4.1, -1.0, 0.6, 0.25], [3.9, -1.1, -0.5, 0.26], [4.0, -0.9, 0.2, 0.24]])
    return EdgeEffects(LAYOUT, EDGES, values, "logit-difference")


def scores(method, *values):
    matrix = torch.zeros(LAYOUT.shape)
    for edge, value in zip(EDGES, values, strict=True):
        matrix[LAYOUT.edge(edge)] = value
    return EdgeScores(matrix, LAYOUT, method)


def test_what_is_told_from_0_stands_apart(effects):
    sure, unsure = effect_dots(effects)["data"][:2]
    assert sure["x"] == pytest.approx([4.0, -1.0, 0.25]) and unsure["x"] == pytest.approx([0.1])
    assert len(effects.plot().data) >= 2


def test_estimates_stand_against_effects_as_roots(effects):
    right, other = scores("right", 4.0, -1.0, 0.1, 0.25), scores("other", 9.0, 1.0, -0.3, 0.25)
    figure = estimate_panels(effects, [right, other])
    titles = [each["text"] for each in figure["layout"]["annotations"]]
    assert "<b>right</b>" in titles and "<b>other</b>" in titles
    line, agree, wrong, *second = figure["data"]
    assert agree["x"] == pytest.approx([2.0, -1.0, 0.1**0.5, 0.5], abs=1e-4)
    assert agree["y"] == agree["x"] and agree["showlegend"] and not wrong["showlegend"]
    assert wrong["x"] == [] and line["x"] == line["y"] and line["x"][1] > 3.0  # 9 has its place
    _, agree, wrong = second
    assert wrong["x"] == pytest.approx([-1.0]) and wrong["y"] == pytest.approx([1.0])
    assert len(agree["x"]) == 3 and agree["xaxis"] == "x2"
    assert wrong["showlegend"] and not agree["showlegend"]
    assert "m0-&gt;logits" in wrong["customdata"][0]
    # The farthest off are named: by 5, by 2, by .4.
    assert farthest([effects.means[index] for index in range(4)], [9.0, 1.0, -0.3, 0.25]) == [
        0,
        1,
        2,
    ]
    drawn = effects.plot(estimates=[right, other], dark=True)
    assert drawn.layout.height > 300
    assert (
        drawn.to_json()
        == circuits.plot.edge_effects(effects, estimates=[right, other], dark=True).to_json()
    )


def test_an_effect_that_may_be_0_has_no_wrong_sign(effects):
    signs = [wrong_sign(effects.means[index], -effects.means[index].value) for index in range(4)]
    assert signs == [True, True, False, True]
