"""Scores that do not fit: what is said of them by blocks, from a file, is what memory says."""

import json

import pytest
import torch

from circuits.comparison import compare
from circuits.errors import CircuitsError
from circuits.evaluation import reliability, stability
from circuits.graph import EdgeScores, Layout, select
from circuits.graph.edge_values import EdgeValues
from circuits.graph.provenance import DataRecord, Provenance
from circuits.importance.changes import edge_change
from circuits.runtime import mapped

LAYOUT = Layout(2, 4, 2)
N = 12


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Three checkpoints in memory, and the same ones in files."""
    draw, folder = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("scores")
    data = DataRecord(task="none", n=N, split="test", fingerprint="f")
    base = torch.randn(N, *LAYOUT.shape, generator=draw) * 3
    here = []
    for place in range(3):
        each = base + place * torch.randn(LAYOUT.shape, generator=draw)
        each = (each + torch.randn(N, *LAYOUT.shape, generator=draw)) * LAYOUT.mask
        here.append(EdgeScores(each.mean(0), LAYOUT, "eap", Provenance(data=data), each))
    files = [one.save(folder, str(place)) for place, one in enumerate(here)]
    return here, [EdgeScores.load(file) for file in files]


@pytest.fixture
def small(monkeypatch):
    """Blocks of 5 edges, and room for the means of three samples."""
    monkeypatch.setattr(mapped, "BLOCK", 5 * N)
    monkeypatch.setattr("circuits.comparison.trajectory._MEANS", 3 * LAYOUT.n_edges)
    monkeypatch.setattr("circuits.evaluation.draws._MEANS", 3 * LAYOUT.mask.numel())
    chunk = {"_CHUNK": LAYOUT.n_edges, "_MEANS": 9 * LAYOUT.n_edges}
    fewer = {"SUBSETS": 10, "SPLITS": 10, "GAP_SUBSETS": 4, "GAP_SPLITS": 2, "PERMUTATIONS": 10}
    where = "circuits.comparison.agreement"
    for name, value in (chunk | fewer).items():
        monkeypatch.setattr(f"{where}.{name}", value)


def compared(scores):
    return compare(scores, n_resamples=100).to_json()


def close(one, other, path=""):
    """JSON values, equal but for rounding."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            close(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            close(a, b, f"{path}[{place}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6), path
    else:
        assert one == other, path


SAID = {
    "compare": compared,
    "stability": lambda scores: stability(scores[0], size=20, n_resamples=20),
    "stability, stable": lambda scores: stability(
        scores[0], size=20, strategy="stable", n_resamples=4
    ),
    "stable": lambda scores: select(scores[0], size=20, strategy="stable").mask.tolist(),
    "reliability": lambda scores: reliability(scores[0], size=20),
    "layers": lambda scores: edge_change(scores[1], scores[0], n_resamples=50).resampled.tolist(),
}


@pytest.mark.parametrize("what", SAID)
def test_a_file_says_what_memory_says(what, both, small):
    in_memory, in_files = both
    assert id(in_files[0].per_example) in mapped._maps
    assert id(in_memory[0].per_example) not in mapped._maps
    first, second = (SAID[what](one) for one in both)
    assert first == second, "to the byte"


def test_blocks_say_what_all_at_once_does(both, small):
    by_blocks = compared(both[1])
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(mapped, "BLOCK", 2**23)
        close(by_blocks, compared(both[0]))
    assert json.dumps(by_blocks["comparisons"]) != "[]"


@pytest.mark.parametrize("what", ["stability", "stability, stable", "stable", "reliability"])
def test_choices_do_not_depend_on_blocks(what, both, small):
    by_blocks = SAID[what](both[1])
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(mapped, "BLOCK", 2**23)
        assert SAID[what](both[0]) == by_blocks


def test_a_draw_of_the_examples_against_copies_of_them(both):
    """Stability of signs of a draw is that of scores made of the drawn examples alone."""
    from circuits.evaluation.draws import drawn
    from circuits.graph.orders import sign_stability

    scores = both[1][0]
    places = torch.tensor([3, 3, 0, 7, 11, 11, 11, 2])
    (one,) = drawn(scores, [places])
    copies = scores.per_example[places]
    made = EdgeScores(copies.mean(0), LAYOUT, "eap", per_example=copies)
    torch.testing.assert_close(one.matrix, made.matrix)
    assert torch.equal(sign_stability(one), sign_stability(made))
    assert 0 < float((sign_stability(one) < 0.95).double().mean()) < 1


def test_values_come_in_matrix_order(both, small):
    values = EdgeValues.of(both[1][1])
    expected = both[0][1].per_example[:, LAYOUT.mask]
    parts = list(values.blocks())
    assert len(parts) > 2
    assert torch.equal(torch.cat([part for _, part in parts], dim=1), expected)
    assert torch.equal(values.columns(torch.tensor([4, 0, 9])), expected[:, [4, 0, 9]])
    weights = torch.rand(3, N, generator=torch.Generator().manual_seed(1)).double()
    (found,) = values.resampled(weights)
    torch.testing.assert_close(found, weights.float() @ expected)


def test_a_score_that_is_not_finite_is_named(both, small):
    each = both[0][0].per_example.clone()
    each[5, 0, -1] = torch.nan
    with pytest.raises(CircuitsError, match="scores of example 5 are not finite"):
        _ = EdgeValues(LAYOUT, each).summary
