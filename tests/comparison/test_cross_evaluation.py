import gc
import math
import weakref

import pytest
import torch

import circuits
from circuits.comparison import CrossEvaluation, cross_evaluate
from circuits.errors import CircuitsError
from circuits.evaluation import measure
from circuits.graph import Circuit, Layout, select
from circuits.graph.controls import random_circuit
from circuits.report import narrative


@pytest.fixture(scope="module")
def setting(hooked, random_pairs):
    """Two models of one shape, their circuits, and pairs that these were not chosen on."""
    models = {"base": hooked("llama"), "step-9": hooked("mistral")}
    scoring, pairs = random_pairs(n=6, seed=1), random_pairs(n=12, seed=2)
    found = {
        name: select(circuits.attribute(model, scoring), size=edges, strategy="top-n")
        for (name, model), edges in zip(models.items(), (60, 40), strict=True)
    }
    return models, found, pairs


def test_the_matrix_is_that_of_single_measurements(setting, tmp_path):
    models, chosen, pairs = setting
    result = cross_evaluate(models, chosen, pairs, n_resamples=100)
    different = 0.0
    drawn = random_circuit(chosen["step-9"], seed=0)
    for name, model in models.items():
        for circuit, one in chosen.items():
            single = measure(model, pairs, [one])
            clean, corrupted = float(single.clean.mean()), float(single.corrupted.mean())
            expected = (float(single.circuits.mean()) - corrupted) / (clean - corrupted)
            found = result.f(name, circuit)
            assert found.value == pytest.approx(expected, abs=1e-5)
            assert found.low <= found.value <= found.high and found.n == 12
            different = max(different, abs(found.value))
    assert different > 0.05
    assert result.sizes == tuple(len(one) for one in chosen.values())
    for place, row in enumerate(result.rows):
        single = measure(models[row.model], pairs, [drawn])
        above = float(single.circuits.mean()) - row.corrupted
        assert row.control.value == pytest.approx(above / (row.clean - row.corrupted), abs=1e-5)
        assert row.behind[place].value == 0 == row.behind[place].high
        other = 1 - place
        assert row.behind[other].value == pytest.approx(row.f[place].value - row.f[other].value)
        assert result.own(row.model) == row.f[place]
    again = CrossEvaluation.load(result.save(tmp_path / "cross_evaluation.json"))
    assert again == result and again.training_steps == [0, 9]
    assert again.data.fingerprint == pairs.fingerprint and again.n == len(again.pairs) == 12
    assert "In step-9, the circuit of base reaches" in narrative.cross_evaluation(again)


def test_the_whole_model_is_faithful_everywhere_and_nothing_nowhere(setting):
    models, _, pairs = setting
    layout = models["base"].layout
    extremes = {"all": Circuit.full(layout), "none": Circuit.empty(layout)}
    result = cross_evaluate(models, extremes, pairs, n_resamples=50)
    for row in result.rows:
        assert row.f[0].value == pytest.approx(1.0, abs=1e-4)
        assert row.f[1].value == 0.0
        assert row.behind is None


def test_models_are_loaded_one_at_a_time(setting):
    models, chosen, pairs = setting
    alive = []

    class Held(circuits.HookedModel):
        """A model of which one may live."""

    def load(name):
        gc.collect()
        assert not [one for one in alive if one() is not None], "the one before is still held"
        model = object.__new__(Held)
        model.__dict__.update(models[name].__dict__)
        alive.append(weakref.ref(model))
        return model

    loaders = {name: lambda name=name: load(name) for name in models}
    result = cross_evaluate(loaders, chosen, pairs[:3], n_resamples=50)
    assert len(alive) == 2
    assert result == cross_evaluate(models, chosen, pairs[:3], n_resamples=50)


def test_a_model_without_a_difference_has_no_f(setting, tmp_path):
    """Random models are never right, on clean prompts or corrupted ones."""
    models, chosen, pairs = setting
    result = cross_evaluate(models, chosen, pairs[:4], metric="accuracy", n_resamples=50)
    assert [row.f for row in result.rows] == [(), ()]
    assert result.f("base", "base") is None
    assert "faithfulness is not defined" in result.rows[0].undefined
    assert "At base f is undefined" in narrative.cross_evaluation(result)
    again = CrossEvaluation.load(result.save(tmp_path / "cross_evaluation.json"))
    assert math.isnan(again.rows[0].clean) and again.rows[0].undefined == result.rows[0].undefined
    assert again.own("base") is None


def test_refusals(setting):
    models, chosen, pairs = setting
    other = Circuit.full(Layout(2, 2, 1))
    with pytest.raises(CircuitsError, match=r"of small does not fit.*\(7 x 11\) and 3 layers"):
        cross_evaluate(models, {"small": other}, pairs)
    with pytest.raises(CircuitsError, match="0 circuits to cross-evaluate"):
        cross_evaluate(models, {}, pairs)
    result = cross_evaluate(models, chosen, pairs[:3], n_resamples=50)
    with pytest.raises(CircuitsError, match="step-7 was not cross-evaluated; known: base, step-9"):
        result.f("step-7", "base")
    assert torch.isfinite(torch.tensor(result.rows[0].clean))
