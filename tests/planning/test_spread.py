"""Spreads against what accelerate makes of the limits that they say."""

import pytest
import torch
from conftest import CONFIGS
from transformers import AutoModelForCausalLM
from transformers.integrations.accelerate import get_balanced_memory, infer_auto_device_map

from circuits.planning.spread import Parts, spreads


def placed(model, limits):
    """Layers on each device, as transformers has accelerate place them."""
    told = dict(enumerate(limits))
    kinds = model._no_split_modules
    balanced = get_balanced_memory(model, max_memory=told, no_split_module_classes=kinds)
    found = infer_auto_device_map(model, max_memory=balanced, no_split_module_classes=kinds)
    blocks = next(one for one in model.modules() if isinstance(one, torch.nn.ModuleList))
    prefix = next(name for name, one in model.named_modules() if one is blocks)
    devices = [
        next(where for part, where in found.items() if f"{prefix}.{i}.".startswith(f"{part}."))
        for i in range(len(blocks))
    ]
    return tuple(devices.count(device) for device in range(len(limits)))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt-neox"])
@pytest.mark.exhaustive_but("gpt2-True-3", "llama-False-2")
def test_accelerate_spreads_a_model_so(name, tied, count):
    config = CONFIGS[name]()
    config.tie_word_embeddings = tied
    config.num_hidden_layers = 12
    if getattr(config, "layer_types", None):
        config.layer_types = (config.layer_types * 12)[:12]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parts = Parts.of(model)
    assert len(parts.layers) == 12 and (parts.last == 0) == tied
    whole = sum(x.nbytes for x in [*model.parameters(), *model.buffers()])
    assert parts.first + sum(parts.layers) + parts.last == whole
    found = spreads(parts, count)
    assert found
    for spread in found:
        assert placed(model, spread.limits) == spread.layers
        assert sum(spread.layers) == 12 and sum(spread.weights) == whole
        assert spread.weights[0] == parts.first + sum(parts.layers[: spread.layers[0]])


def test_layers_that_are_not_alike_are_shared_by_their_bytes():
    parts = Parts(10, (10, 10, 10, 10, 40), 5, (10, 10, 10, 10, 40))
    found = {spread.layers: spread.weights for spread in spreads(parts, 3)}
    assert found[1, 3, 1] == (20, 30, 45)
    assert spreads(Parts(10, (), 5), 2) == ()
    assert spreads(parts, 8) == ()
