"""Scores in two precisions of a model, held against each other."""

import pytest
import torch
from conftest import make_model

from circuits.comparison import precision
from circuits.comparison.precision import agreement_of, beside_unquantised
from circuits.errors import CircuitsError
from circuits.graph.paired import require_paired
from circuits.graph.provenance import ModelRecord
from circuits.models import HookedModel
from circuits.models.quantised import quantise


@pytest.fixture(scope="module")
def quantised(hooked):
    model = make_model("llama")
    quantise(model, "nf4")
    return HookedModel(model, None, "q")


def test_agreement_is_of_ranks_and_of_the_largest(make_scores, layout):
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(2, *layout.shape, generator=draw)
    one = make_scores(layout, values)
    found = agreement_of(one, make_scores(layout, values * 3))
    assert (found.n, found.rank, found.top) == (2, pytest.approx(1), 1)
    found = agreement_of(one, make_scores(layout, -values))
    assert (found.rank, found.top) == (pytest.approx(-1), 1)  # the largest by size
    assert agreement_of(one, make_scores(layout, 1 / values)).top == 0
    assert str(found) == "rank correlation \u22121.00, the top 1% of edges share 1.00 (n = 2 pairs)"


def test_a_quantised_model_beside_the_plain_one(quantised, hooked, random_pairs):
    line = beside_unquantised(quantised, random_pairs(n=9), "eap", lambda: hooked("llama"))
    assert line.startswith("q: its weights are quantised (bitsandbytes 0")
    assert "; circuits of 4 bits are circuits of another model; its edges' scores against" in line
    assert line.endswith("(n = 8 pairs)")
    assert "rank correlation 1.00" not in line


def test_what_does_not_fit_is_not_loaded(quantised, random_pairs, monkeypatch):
    monkeypatch.setattr(precision, "available_memory", lambda device: 10_000)
    line = beside_unquantised(quantised, random_pairs(n=1), "eap", pytest.fail)
    assert line.endswith(
        "not compared with it unquantised, which needs 0.0 GB where 0.0 GB are free"
    )


def test_comparing_precisions_says_so(make_scores, layout, caplog):
    draw = torch.Generator().manual_seed(0)
    scores = make_scores(layout, torch.randn(8, *layout.shape, generator=draw))
    plain = ModelRecord(name="m", architecture="A", dtype="float32", fingerprint="1")
    four = plain.model_copy(update={"quantisation": "bitsandbytes 0.50.2 nf4", "fingerprint": "2"})
    assert not four.has_other_weights(plain)
    require_paired([scores.noting(model=plain), scores.noting(model=plain)], ["a", "b"])
    assert not caplog.messages
    require_paired([scores.noting(model=plain), scores.noting(model=four)], ["a", "b"])
    assert caplog.messages == [
        "warning: models of other precision are compared: a in float32, b in bitsandbytes 0.50.2 "
        "nf4, computed in float32; what differs may come of that alone"
    ]


def test_a_plain_model_is_refused(hooked, random_pairs):
    with pytest.raises(CircuitsError, match="its weights are not quantised"):
        beside_unquantised(hooked("llama"), random_pairs(n=1), "eap", pytest.fail)
