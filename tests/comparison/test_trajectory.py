import numpy as np
import pytest
import torch

from circuits.comparison.changes import Strengths
from circuits.comparison.trajectory import strongest, trajectory
from circuits.graph.edge_values import EdgeValues
from circuits.statistics import resample_weights


@pytest.fixture(scope="module")
def followed(layout, noisy):
    """m0->m2 enters at the second checkpoint for good; m1->m2 comes, goes, and comes back."""
    strengths = {"m0->m2": (0, 5, 5, 5), "m1->m2": (4, 0, 4, 4), "m2->logits": (6, 6, 6, 6)}
    scores = []
    for place in range(4):
        means = torch.zeros(layout.shape)
        for edge, values in strengths.items():
            means[layout.edge(edge)] = float(values[place])
        scores.append(EdgeValues(layout, noisy(layout, means, noise=0.3, seed=place)))
    names = ("base", "1", "2", "3")
    weights = resample_weights(40, 100, seed=0)
    strengths = [Strengths.of(values) for values in scores]
    return trajectory(scores, names, weights, strengths, size=3, top=5)


def test_inclusions(followed):
    inclusions = {one.edge: one for one in followed.inclusions}
    assert set(inclusions) == {"m0->m2", "m1->m2", "m2->logits"}
    assert (inclusions["m0->m2"].first, inclusions["m0->m2"].stable_from) == ("1", "1")
    assert (inclusions["m1->m2"].first, inclusions["m1->m2"].stable_from) == ("base", "2")
    assert (inclusions["m2->logits"].first, inclusions["m2->logits"].stable_from) == (
        "base",
        "base",
    )
    assert inclusions["m0->m2"].frequency[1:] == (1.0, 1.0, 1.0)
    assert inclusions["m0->m2"].frequency[0] < 1.0


def test_scores_of_edges_and_nodes(followed, layout):
    edges = {one.name: one for one in followed.edges}
    assert len(edges) == 5 and {"m0->m2", "m1->m2", "m2->logits"} <= set(edges)
    scores = edges["m0->m2"].scores
    assert scores.n == 40
    for index, true in enumerate((0, 5, 5, 5)):
        assert scores[index].low <= scores[index].value <= scores[index].high
        assert abs(scores[index].value - true) < 0.3
    assert tuple(one.name for one in followed.nodes) == layout.sources
    m0 = next(one for one in followed.nodes if one.name == "m0")
    assert m0.scores[1].value > m0.scores[0].value + 3
    assert m0.scores[1].low > m0.scores[0].high


@pytest.mark.parametrize("size", [1, 7, 40, 200])
def test_the_strongest_of_equal_ones_are_the_first(size):
    draw = torch.Generator().manual_seed(0)
    strengths = (torch.randint(30, (200,), generator=draw) / 7).numpy()
    expected = np.zeros(200, dtype=bool)
    expected[np.argsort(-strengths, kind="stable")[:size]] = True
    assert np.array_equal(strongest(strengths, size), expected)
