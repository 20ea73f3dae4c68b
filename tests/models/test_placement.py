"""Models on several devices: over two pretended ones, by accelerate, and offloaded to disk."""

import copy

import pytest
import torch
from accelerate import dispatch_model
from conftest import make_model
from elsewhere import DEVICE, SECOND, elsewhere

import circuits
from circuits.errors import CircuitsError
from circuits.evaluation import measure
from circuits.graph import select
from circuits.intervention.patching import PatchSpec, patch, path_patch
from circuits.models import HookedModel, WeightLoading
from circuits.options.model import memory_limits

PARTS = {
    "llama": ["model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"],
    "gpt2": [
        "transformer.wte",
        "transformer.wpe",
        "transformer.drop",
        "transformer.ln_f",
        "lm_head",
    ],
}
LAYERS = {"llama": "model.layers", "gpt2": "transformer.h"}


def spread(name, second, first):
    """Where each part is: the middle layer and the last norm on the second device."""
    ends = {part: second if part.endswith(("norm", "ln_f")) else first for part in PARTS[name]}
    return ends | {f"{LAYERS[name]}.{i}": second if i == 1 else first for i in range(3)}


def works(model, pairs):
    """Scores of edges and neurons, corrected ones too, a circuit run, patched heads and paths."""
    scores = circuits.attribute(model, pairs, steps=2)
    circuit = [select(scores, size=30)]
    found = [scores.matrix, measure(model, pairs, circuit).circuits]
    found.append(measure(model, pairs, circuit, ablation="mean").circuits)
    found.append(circuits.attribute_nodes(model, pairs, level="neuron").values)
    found += [circuits.attribute(model, pairs, how).matrix for how in ("relp", "gim")]
    found += patch(model, pairs, PatchSpec("z")).values.values()
    found += path_patch(model, pairs, ["a0.h0->m1", "m0->logits"]).values.values()
    return [one.cpu() for one in found]


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        reach = float(other.abs().max())
        assert reach > 0
        assert torch.allclose(one, other, rtol=0, atol=1e-5 * reach)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.exhaustive_but("llama")
def test_two_devices_that_refuse_to_mix(name, hooked, random_pairs):
    pairs = random_pairs(n=2, lengths=[9, 7])
    expected = works(hooked(name), pairs)
    with elsewhere():
        model = dispatch_model(copy.deepcopy(hooked(name).hf), spread(name, SECOND, DEVICE))
        there = HookedModel(model, None, name)
        assert there.device == DEVICE
        assert {one.device for one in there.hf.parameters()} == {DEVICE, SECOND}
        found = works(there, pairs)
        with pytest.raises(CircuitsError, match="cannot be handed on to workers"):
            there.recipe()
        with pytest.raises(RuntimeError, match=r"tensors on \['lazy:0', 'lazy:1'\]"):
            torch.ones(2, device=DEVICE) + torch.ones(2, device=SECOND)
    same(found, expected)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.exhaustive_but("llama")
def test_weights_on_disk(name, model_folder, hooked, random_pairs, tmp_path):
    pairs = random_pairs(n=2)
    where = WeightLoading(device_map=spread(name, "disk", "cpu"), offload_folder=str(tmp_path))
    model = HookedModel.from_pretrained(model_folder(name), weights=where)
    assert any(one.is_meta for one in model.hf.parameters())
    assert model.fingerprint == hooked(name).fingerprint
    same(works(model, pairs), works(hooked(name), pairs))


def test_a_device_beside_a_map_is_refused(model_folder):
    with pytest.raises(CircuitsError, match="device cpu and a device map are given; leave one"):
        HookedModel.from_pretrained(
            model_folder("llama"), device="cpu", weights=WeightLoading(device_map="auto")
        )


def test_limits_are_of_a_map_that_is_made():
    with pytest.raises(CircuitsError, match="max_memory says how device_map auto is made"):
        WeightLoading(max_memory={"cpu": "1GB"})
    assert memory_limits("0=20GB, cpu=60GB") == {"0": "20GB", "cpu": "60GB"}
    for text in ("20GB", "gpu=1GB", "0="):
        with pytest.raises(CircuitsError, match="write device=size, as in 0=20GB,cpu=60GB"):
            memory_limits(text)


def test_weights_without_data_are_still_refused():
    with pytest.raises(CircuitsError, match="hold no data here"):
        HookedModel(make_model("gpt2").to("meta"), None, "mine")


def test_a_worker_spreads_a_model_as_its_driver_did(model_folder):
    where = WeightLoading(device_map={"": "cpu"})
    model = HookedModel.from_pretrained(model_folder("llama"), weights=where)
    there = model.recipe()("cpu")  # a worker's own device says nothing then
    assert there.fingerprint == model.fingerprint
