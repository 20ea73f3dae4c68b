"""Adapters on exactly the layers asked for."""

from __future__ import annotations

import re

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from circuits.errors import CircuitsError
from circuits.importance import LayerImportance, MapImportance, RoleImportance
from circuits.models.adapters import quiet_peft
from circuits.tuning.projections import Projections
from circuits.tuning.targets import (
    adapted_layers,
    adapter_ranks,
    lora_config,
    trainable_parameters,
    wrap,
)
from tests.conftest import CONFIGS

ATTENTION = {
    "gpt2": {"attn.c_attn", "attn.c_proj"},
    "llama": {f"self_attn.{letter}_proj" for letter in "qkvo"},
}
MLP = {
    "gpt2": {"mlp.c_fc", "mlp.c_proj"},
    "llama": {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"},
}
STACK = {"gpt2": "transformer.h", "llama": "model.layers"}


def adapters(wrapped):
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A")
        for name, _ in wrapped.named_modules()
        if name.endswith(".lora_A")
    }


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("layers", [[1], [0, 2], [2, 0], None])
def test_exactly_the_wanted_layers(name, layers, load):
    model = load(name)
    projections = Projections.of(model)
    config = lora_config(layers, model, rank=4)
    wrapped = wrap(model, config)
    wanted = range(3) if layers is None else layers
    paths = ATTENTION[name] | MLP[name]
    assert adapters(wrapped) == {f"{STACK[name]}.{i}.{path}" for i in wanted for path in paths}
    assert adapted_layers(wrapped) == tuple(sorted(wanted))
    assert trainable_parameters(wrapped) == projections.parameters(wanted, 4) > 0
    assert config.fan_in_fan_out == (name == "gpt2")
    assert config.lora_alpha == 8


@pytest.mark.parametrize("name", CONFIGS)
def test_all_maps_of_the_layers_on_every_architecture(name, model_folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder(name))
    inside = {
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and re.search(r"\.\d\.", path)
    }
    assert len(inside) >= 3 * 4
    assert adapters(wrap(model, lora_config(None, model))) == inside


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_parts(name, load):
    model = load(name)
    wrapped = wrap(model, lora_config([1], model, parts=("q", "k", "v", "mlp")))
    output = {"gpt2": "attn.c_proj", "llama": "self_attn.o_proj"}[name]
    paths = (ATTENTION[name] | MLP[name]) - {output}
    assert adapters(wrapped) == {f"{STACK[name]}.1.{path}" for path in paths}


@pytest.mark.parametrize("form", [{}, {"dora": True}, {"rslora": True}])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_rank_for_each_map(name, form, load, tmp_path):
    """By full names, in the form that plain PEFT reads; every adapter has the same scale."""
    model = load(name)
    projections = Projections.of(model, dora="dora" in form)
    ranks = {one: 1 + place % 3 for place, one in enumerate(projections.all) if place % 2}
    wrapped = wrap(model, lora_config(ranks, model, **form))
    assert adapter_ranks(wrapped) == ranks and len(set(ranks.values())) == 3
    assert trainable_parameters(wrapped) == projections.count(ranks)
    scale = {one.scaling["default"] for one in wrapped.modules() if isinstance(one, LoraLayer)}
    expected = {2 * (8 / rank) ** 0.5 if form == {"rslora": True} else 2 for rank in (1, 2, 3)}
    assert sorted(scale) == pytest.approx(sorted(expected))
    for parameter_name, parameter in wrapped.named_parameters():
        if "lora_" in parameter_name:
            torch.nn.init.normal_(parameter)
    wrapped.save_pretrained(tmp_path)
    with quiet_peft():
        again = PeftModel.from_pretrained(load(name), tmp_path)
    assert adapter_ranks(again) == ranks
    tokens = torch.arange(1, 9)[None]
    with torch.no_grad():
        assert torch.equal(again(tokens).logits, wrapped.eval()(tokens).logits)


def test_ranks_by_the_importance_of_maps(load):
    model = load("llama")
    given = MapImportance("x", 3, (RoleImportance(1, "v", (1.0, 0.0)),))
    config = lora_config(given, model, rank=2)
    only = Projections.of(model).maps[1]["self_attn.v_proj"]
    widest = min(only.inputs, only.outputs)
    assert adapter_ranks(wrap(model, config)) == {"model.layers.1.self_attn.v_proj": widest}


def test_a_rank_that_peft_does_not_give_is_noticed(load):
    model = load("llama")
    config = lora_config({"model.layers.1.mlp.up_proj": 2}, model)
    config.rank_pattern = {"up_proj": 5}
    with pytest.raises(CircuitsError, match=r"layers\.1\.mlp\.up_proj has rank 5, and .* for 2"):
        wrap(model, config)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_fresh_adapter_changes_nothing_and_a_changed_one_does(name, load):
    model = load(name)
    tokens = torch.arange(1, 9)[None]
    with torch.no_grad():
        plain = model(input_ids=tokens).logits
        wrapped = wrap(model, lora_config([1], model))
        assert torch.equal(wrapped(input_ids=tokens).logits, plain)
        for parameter_name, parameter in wrapped.named_parameters():
            if "lora_B" in parameter_name:
                parameter.add_(0.1)
        assert not torch.allclose(wrapped(input_ids=tokens).logits, plain)


def test_layers_by_importance(load):
    model = load("llama")
    importance = LayerImportance("edges", (1.0, 3.0, 2.0))
    assert lora_config(importance, model).layers_to_transform == [1]
    assert lora_config(importance, model, k=2).layers_to_transform == [1, 2]


@pytest.mark.parametrize(("rank", "layers"), [(8, [0]), (8, [0, 2]), (3, [0, 1]), (1, [0, 1])])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_ranks_that_match_parameters(name, rank, layers, load):
    projections = Projections.of(load(name))
    budget = projections.parameters(range(3), rank)
    matched = projections.matching_rank(layers, budget)
    per_rank = projections.parameters(layers, 1)
    assert abs(matched * per_rank - budget) <= per_rank / 2
    if rank == 8:
        assert matched * per_rank == budget


def test_layer_targeting_that_peft_ignores_is_noticed(load):
    model = load("gpt2")
    # PEFT takes a full module name as it stands and does not look at layers_to_transform.
    config = LoraConfig(
        target_modules=["attn.c_attn", "transformer.h.1.mlp.c_fc"],
        layers_to_transform=[0],
        layers_pattern="h",
        fan_in_fan_out=True,
    )
    with pytest.raises(CircuitsError, match=r"unasked on \['transformer\.h\.1\.mlp\.c_fc'\]"):
        wrap(model, config)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: lora_config([3], m), r"layers \[3\]: the model has layers 0 to 2"),
        (lambda m: lora_config([-1], m), "layers 0 to 2"),
        (lambda m: lora_config([], m), "layers 0 to 2"),
        (lambda m: lora_config([0], m, rank=0), "rank 0"),
        (lambda m: lora_config([0], m, k=1), "k chooses"),
        (lambda m: lora_config({"h.0.attn": 1}, m), r"maps \['h\.0\.attn'\]: name linear maps"),
        (lambda m: lora_config({"transformer.h.0.attn.c_attn": 0}, m), "rank 0 of transformer"),
        (lambda m: lora_config([0], m, parts=("norm",)), "q, k, v, attention-output, mlp"),
        (lambda m: lora_config(LayerImportance("x", (1.0,)), m), "1 layers for a model of 3"),
        (lambda m: wrap(m, LoraConfig(target_modules="all-linear")), "list of names"),
        (lambda m: lora_config([0], wrap(m, lora_config([0], m)).model), "already"),
    ],
)
def test_target_refusals(call, message, load):
    with pytest.raises(CircuitsError, match=message):
        call(load("gpt2"))
