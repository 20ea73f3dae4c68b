import pytest
import torch

from circuits.comparison.changes import Strengths
from circuits.comparison.trajectory import trajectory
from circuits.statistics import resample_weights


@pytest.fixture(scope="module")
def course(layout, noisy):
    """m0->m2 enters at the second checkpoint for good; m1->m2 comes, goes, and comes back."""
    strengths = {"m0->m2": (0, 5, 5, 5), "m1->m2": (4, 0, 4, 4), "m2->logits": (6, 6, 6, 6)}
    scores = []
    for place in range(4):
        means = torch.zeros(layout.shape)
        for edge, values in strengths.items():
            means[layout.edge(edge)] = float(values[place])
        scores.append(noisy(layout, means, noise=0.3, seed=place)[:, layout.mask])
    names = ("base", "1", "2", "3")
    weights = resample_weights(40, 100, seed=0)
    strengths = [Strengths.of(layout, values) for values in scores]
    return trajectory(layout, scores, names, weights, strengths, size=3, top=5)


def test_entries(course):
    entries = {entry.edge: entry for entry in course.entries}
    assert set(entries) == {"m0->m2", "m1->m2", "m2->logits"}
    assert (entries["m0->m2"].first, entries["m0->m2"].stable_from) == ("1", "1")
    assert (entries["m1->m2"].first, entries["m1->m2"].stable_from) == ("base", "2")
    assert (entries["m2->logits"].first, entries["m2->logits"].stable_from) == ("base", "base")
    assert entries["m0->m2"].inclusion[1:] == (1.0, 1.0, 1.0)
    assert entries["m0->m2"].inclusion[0] < 1.0


def test_courses(course, layout):
    edges = {one.name: one for one in course.edges}
    assert len(edges) == 5 and {"m0->m2", "m1->m2", "m2->logits"} <= set(edges)
    found = edges["m0->m2"]
    for value, low, high, true in zip(
        found.values, found.low, found.high, (0, 5, 5, 5), strict=True
    ):
        assert low <= value <= high
        assert abs(value - true) < 0.3
    assert tuple(one.name for one in course.nodes) == layout.sources
    m0 = next(one for one in course.nodes if one.name == "m0")
    assert m0.values[1] > m0.values[0] + 3


def test_json(course):
    record = course.to_dict()
    assert record["size"] == 3 and record["checkpoints"] == ["base", "1", "2", "3"]
    assert set(record["entries"][0]) == {"edge", "first", "stable_from", "inclusion"}
    assert set(record["nodes"][0]) == {"name", "values", "low", "high"}
