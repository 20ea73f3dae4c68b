"""Everything that runs a model, on a device that is not the CPU: nothing is left behind."""

import copy

import pytest
import torch
from conftest import CONFIGS, ENCODER_DECODERS
from elsewhere import DEVICE, elsewhere

import circuits
from circuits.graph import select, select_nodes
from circuits.intervention.patching import SITES, PatchSpec, patch, path_patch
from circuits.models import HookedModel
from circuits.options.evaluation import (
    CompletenessConfig,
    EvalConfig,
    MinimalityConfig,
    StabilityConfig,
)
from circuits.search import AcdcConfig, HeadPruningConfig, acdc, prune_heads

EVERY = EvalConfig(
    minimality=MinimalityConfig(n_controls=2, n_pairs=2),
    completeness=CompletenessConfig(n_sets=1, n_steps=1, n_candidates=2, n_pairs=2),
    stability=StabilityConfig(3),
    ablation="mean",
)
METHODS = (
    "eap",
    "clean-corrupted",
    "relp",
    "gim",
    "eap-ig-activations",
    "random",
    "information-flow",
)


def far(model):
    """A `hooked` model, moved to the pretended device."""
    return HookedModel(copy.deepcopy(model.hf).to(DEVICE), model.tokenizer, model.name)


def close(found, expected, places=5e-5):
    """Equal but for rounding: tensors, and numbers in records."""
    if isinstance(expected, torch.Tensor):
        assert found.device.type == expected.device.type == "cpu"
        assert expected.nan_to_num().abs().max() > 0
        reach = places * float(expected.nan_to_num().abs().max())
        assert torch.allclose(found, expected, rtol=0, atol=reach, equal_nan=True)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key], places)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, other, places)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-2, abs=1e-3)
    else:
        assert found == expected


def test_a_tensor_left_on_the_host_is_refused():
    with elsewhere():
        there = torch.ones(3, device=DEVICE)
        assert (there.device, (there * 2).cpu().tolist()) == (DEVICE, [2.0, 2.0, 2.0])
        with pytest.raises(RuntimeError, match=r"add.*\[\(3,\)\] on the host"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="on the host"):
            torch.ones(3)[torch.zeros(1, dtype=torch.long, device=DEVICE)]
        with pytest.raises(TypeError, match="no NumPy array"):
            there.numpy()


@pytest.mark.parametrize("name", [*CONFIGS, *ENCODER_DECODERS])
@pytest.mark.exhaustive_but("gpt2", "bart")
def test_scores_of_every_architecture(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=3, lengths=[9, 7, 9])
    expected = circuits.attribute(model, pairs, steps=2, per_example=True)
    with elsewhere():
        found = circuits.attribute(far(model), pairs, steps=2, per_example=True)
    close(found.per_example, expected.per_example)


@pytest.fixture(scope="module")
def both(hooked):
    """work(model) there and here."""
    here = hooked("gpt2")
    with elsewhere():
        there = far(here)

    def run(work):
        with elsewhere():
            found = work(there)
        return found, work(here)

    return run


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.exhaustive_but("eap", "clean-corrupted", "relp", "gim", "random", "information-flow")
def test_scores_by_every_method(method, both, random_pairs):
    pairs = random_pairs(n=2)
    close(*both(lambda model: circuits.attribute(model, pairs, method).matrix))


def test_adaptive_steps(both, random_pairs):
    pairs = random_pairs(n=1)
    close(*both(lambda model: circuits.attribute(model, pairs, steps="auto").matrix))


@pytest.mark.parametrize("level", ["node", "neuron"])
def test_scores_of_nodes(level, both, random_pairs):
    pairs = random_pairs(n=2)
    close(*both(lambda model: circuits.attribute_nodes(model, pairs, level=level).values))


@pytest.mark.exhaustive
def test_evaluation_of_edges(both, hooked, random_pairs):
    scores = circuits.attribute(hooked("gpt2"), random_pairs(n=4, seed=1), per_example=True)
    circuit, pairs = select(scores, size=30), random_pairs(n=4, seed=2)

    def work(model):
        found = circuits.evaluate(*(model, scores, circuit, pairs), config=EVERY)
        return found.model_dump(mode="json")

    close(*both(work))


@pytest.mark.exhaustive
def test_evaluation_of_neurons(both, hooked, random_pairs):
    scored_on, pairs = random_pairs(n=4, seed=1), random_pairs(n=4, seed=2)
    scores = circuits.attribute_nodes(hooked("gpt2"), scored_on, level="neuron", per_example=True)
    circuit = select_nodes(scores, 8)

    def evaluated(model):
        return circuits.evaluate(model, scores, circuit, pairs).model_dump(mode="json")

    close(*both(evaluated))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.exhaustive_but("resid_mid", "neuron", "z", "q", "pattern")
def test_patching(site, both, random_pairs):
    pairs = random_pairs(n=2)
    close(*both(lambda model: patch(model, pairs, PatchSpec(site)).values))


def test_path_patching(both, random_pairs):
    pairs = random_pairs(n=2)
    close(*both(lambda model: path_patch(model, pairs, ["a0.h0->m1", "m0->logits"]).values))


@pytest.mark.exhaustive
def test_searches(both, random_pairs):
    pairs = random_pairs(n=2)
    found, expected = both(lambda model: acdc(model, pairs, AcdcConfig(0.05)).to_json())
    close(found, expected)
    found, expected = both(lambda model: prune_heads(model, pairs, HeadPruningConfig(0.05)))
    assert found.heads == expected.heads


def test_diffs_of_models(both, hooked, random_pairs):
    pairs = random_pairs(n=3, lengths=[9, 7, 9])
    found, expected = both(
        lambda model: circuits.diff_models(model, model, pairs, n_resamples=20).model_dump(
            mode="json"
        )
    )
    close(found, expected)


def test_circuits_in_other_checkpoints(both, hooked, random_pairs):
    scores, pairs = circuits.attribute(hooked("gpt2"), random_pairs(n=4)), random_pairs(n=3, seed=2)
    chosen = {name: select(scores, size=edges) for name, edges in (("a", 20), ("b", 30))}

    def work(model):
        models = dict.fromkeys(chosen, model)
        return circuits.cross_evaluate(models, chosen, pairs, n_resamples=20).to_json()

    close(*both(work))
