"""Neurons that get the base's activations, of models that differ in three neurons alone."""

from __future__ import annotations

import pytest
import torch
import transformers

from circuits.errors import CircuitsError, UndefinedMetricError
from circuits.model_diff.restoration import restore_neurons
from circuits.model_diff.restored import Restoration
from circuits.models import HookedModel
from circuits.options.restoration import RestorationConfig

EDITED = {(1, 5), (1, 40), (2, 7)}
CONFIG = RestorationConfig(candidates=3, sizes=(1, 2, 3), greedy=2, draws=2, n_resamples=100)


@pytest.fixture(scope="module")
def models(hooked, model_folder):
    """The base, and a copy in which the three neurons answer otherwise to what they read."""
    tuned = transformers.AutoModelForCausalLM.from_pretrained(model_folder("gpt2"))
    with torch.no_grad():
        for place, (layer, neuron) in enumerate(sorted(EDITED)):
            mlp = tuned.transformer.h[layer].mlp
            mlp.c_fc.bias[neuron] += 2.0 + place
    return HookedModel(tuned, None, "tuned"), hooked("gpt2")


@pytest.fixture(scope="module")
def pairs(random_pairs):
    return random_pairs(n=5, lengths=[9, 7, 9, 8, 6]), random_pairs(n=6, seed=3)


@pytest.fixture(scope="module")
def found(models, pairs):
    return restore_neurons(*models, *pairs, config=CONFIG)


def by_hand(model, base, pair, places):
    """One prompt's logit difference by the plain models, neuron by neuron."""
    kept, handles = {}, []

    def keep(layer):
        return lambda module, given: kept.update({layer: given[0].clone()})

    def put(layer):
        def edit(module, given):
            changed = given[0].clone()
            for at, neuron in places:
                if at == layer:
                    changed[0, :, neuron] = kept[layer][0, :, neuron]
            return (changed,)

        return edit

    tokens = torch.tensor([[*pair.clean, *pair.teacher_forced]])
    for make, each in ((keep, base), (put, model)):
        for layer, block in enumerate(each.hf.transformer.h):
            handles.append(block.mlp.c_proj.register_forward_pre_hook(make(layer)))
        with torch.no_grad():
            logits = each.hf(tokens).logits[0, len(pair.clean) - 1]
        for handle in handles:
            handle.remove()
        handles.clear()
    right, wrong = (logits[list(tokens)].mean() for tokens in (pair.answer[0], pair.wrong[0]))
    return float(right - wrong)


def places_of(neurons):
    return [tuple(int(part[1:]) for part in name.split(".")) for name in neurons]


def test_every_share_is_that_of_the_plain_models(found, models, pairs):
    judged, _ = pairs

    def mean(places):
        return sum(by_hand(*models, pair, places) for pair in judged) / len(judged)

    tuned, original = mean([]), sum(by_hand(models[1], models[1], pair, []) for pair in judged) / 5
    assert abs(tuned - original) > 1e-2
    assert found.tuned.value == pytest.approx(tuned, abs=1e-5)
    assert found.original.value == pytest.approx(original, abs=1e-5)
    for one in found.sets:
        if one.kind in ("alone", "greedy", "control"):
            expected = (tuned - mean(places_of(one.neurons))) / (tuned - original)
            assert one.undone.value == pytest.approx(expected, abs=1e-4), one


def test_the_neurons_that_differ_are_found_and_undo_it_all(found):
    assert {*places_of(found.candidates)} == EDITED
    assert found.undone("top", 3)[0].value == pytest.approx(1.0, abs=1e-5)
    assert found.of("all")[0].undone.value == pytest.approx(1.0, abs=1e-5)
    assert found.of("all")[0].size == 3 * 128
    drawn = [one.neurons for one in found.of("random") if one.size == 2]
    assert len(drawn) == len(set(drawn)) == len(found.undone("random", 2)) == 2
    controls = found.of("control")[-1].neurons
    assert not {*controls} & {*found.candidates}
    assert [at for at, _ in places_of(controls)] == [at for at, _ in places_of(found.candidates)]
    layer_1 = [one for one in found.of("control") if one.neurons[0].startswith("m1.")][:1]
    assert all(abs(one.undone.value) < 1e-5 for one in layer_1), "nothing before it differs"


def test_it_is_the_same_when_it_is_read_back(found, tmp_path):
    again = Restoration.load(found.save(tmp_path / "restoration.json"))
    assert again.to_json() == found.to_json() and len(again.to_frame()) == len(found.sets)
    assert "tuned with activations of" in repr(again)
    with pytest.raises(CircuitsError, match="no top set of 9 neurons; sizes: 1, 2, 3"):
        found.undone("top", 9)


def test_what_cannot_be_judged_is_refused(models, pairs):
    with pytest.raises(CircuitsError, match="share pairs; choose neurons on others"):
        restore_neurons(*models, pairs[0], pairs[0])
    with pytest.raises(UndefinedMetricError, match=r"logit-difference is .* of both on these"):
        restore_neurons(models[1], models[1], *pairs, config=CONFIG)
    with pytest.raises(CircuitsError, match=r"sizes \[9\]: one or more, each between 1 and"):
        RestorationConfig(candidates=4, sizes=(9,))
    with pytest.raises(CircuitsError, match="greedy 5: there are 4 candidates"):
        RestorationConfig(candidates=4, sizes=(1,), greedy=5)
