"""Adapters beside a fully fine-tuned model: planted scores, and models that differ in a head."""

from __future__ import annotations

import pytest
import torch
import transformers

from circuits.comparison import compare
from circuits.errors import CircuitsError
from circuits.model_diff import diff_models
from circuits.models import HookedModel
from circuits.options.comparison import ComparisonOptions
from circuits.tuning.adapter_circuits import AdapterCircuits, compare_adapter_circuits

N = 12
SETTINGS = ComparisonOptions(sizes=(0.1, 0.2), n_resamples=100)
NAMES = {"base": "base", "tuned": "step-9"}


@pytest.fixture(scope="module")
def scores(layout, make_scores):
    """`like` has the fine-tuned model's edges, `other` edges of its own, and base a third set."""
    draw = torch.Generator().manual_seed(0)
    base, tuned, other = torch.randn(3, *layout.shape, generator=draw).pow(3)

    def noisy(mean):
        return make_scores(layout, mean + 0.3 * torch.randn(N, *layout.shape, generator=draw))

    means = {"base": base, "like": tuned, "other": other, "step-9": tuned}
    return {name: noisy(mean) for name, mean in means.items()}


@pytest.fixture(scope="module")
def models(hooked, model_folder):
    """`like` attends as the fine-tuned model does, `other` as the base does."""
    base = hooked("gpt2")
    tuned = transformers.AutoModelForCausalLM.from_pretrained(model_folder("gpt2"))
    with torch.no_grad():
        tuned.transformer.h[1].attn.c_attn.weight[:, 16:24] *= -3
    tuned = HookedModel(tuned, None, "tuned")
    return {
        "base": lambda: base,
        "like": lambda: tuned,
        "other": lambda: base,
        "step-9": lambda: tuned,
    }


@pytest.fixture(scope="module")
def pairs(random_pairs):
    return random_pairs(n=4)


@pytest.fixture(scope="module")
def found(scores, models, pairs):
    return compare_adapter_circuits(scores, models, pairs, settings=SETTINGS, **NAMES)


def test_overlaps_are_those_of_two_models_compared_alone(found, scores):
    assert [one.model for one in found.overlaps] == ["base", "like", "other"]
    two = compare([scores["like"], scores["step-9"]], sizes=SETTINGS.sizes, n_resamples=60)
    one, like = two.comparisons[0], found.overlap("like")
    assert one.middle.edge_jaccard.between > 0.1
    assert (like.spearman, like.weighted_jaccard) == (one.spearman, one.weighted_jaccard)
    assert repr(like.sizes) == repr(one.sizes)  # where nothing was rewired, a share is NaN


def test_who_has_another_circuit_is_told_from_who_has_the_same(found):
    assert found.apart == ("base", "other")
    assert found.overlap("like").middle.edge_jaccard.gap.high >= 0
    assert "apart from it base, other" in repr(found)


def test_divergences_are_those_of_a_whole_diff(found, models, pairs):
    assert [(one.model, one.base) for one in found.attention] == [
        ("like", "base"),
        ("other", "base"),
        ("step-9", "base"),
        ("like", "step-9"),
        ("other", "step-9"),
    ]
    for model, base in (("step-9", "base"), ("other", "step-9")):
        diff = diff_models(models[model](), models[base](), pairs, n_resamples=100)
        one = found.attention_of(base, model)
        assert float(diff.kl_by_layer.value.max()) > 1e-3
        assert torch.allclose(one.kl_by_layer.value, diff.kl_by_layer.value)
        assert torch.allclose(one.kl_by_layer.low, diff.kl_by_layer.low)
        assert one.kl.value == pytest.approx(float(diff.kl.value.mean()))
    assert found.attention_of("other", "base").kl.value == 0.0
    assert found.attention_of("like", "step-9").kl.value == 0.0


def test_it_is_the_same_when_it_is_read_back(found, tmp_path):
    again = AdapterCircuits.load(found.save(tmp_path / "lora_circuits.json"))
    assert again.to_json() == found.to_json()
    frame = again.to_frame()
    assert list(frame.model) == ["base", "like", "other"]
    assert frame.kl_to_base.isna().tolist() == [True, False, False]


def test_what_does_not_go_together_is_refused(found, scores, models, pairs):
    fewer = {name: one for name, one in scores.items() if name != "like"}
    with pytest.raises(CircuitsError, match=r"give both of base, of step-9, and of one adapter"):
        compare_adapter_circuits(fewer, models, pairs, **NAMES)
    with pytest.raises(
        CircuitsError, match="step-1 was not held against step-9; known: base, like"
    ):
        found.overlap("step-1")
    with pytest.raises(CircuitsError, match="attention of like and other was not compared"):
        found.attention_of("like", "other")
