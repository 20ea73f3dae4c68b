"""Adapters by head: what of the merged weights changes, and that it is a LoRA like any other."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import CONFIGS
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from circuits.errors import CircuitsError
from circuits.graph import Layout
from circuits.importance import MapImportance, RoleImportance
from circuits.models import HookedModel
from circuits.models.adapters import quiet_peft
from circuits.models.view import input_major
from circuits.options.tuning import AdapterOptions, FinetuneSettings, LoraProtocol
from circuits.report.sections.lora import _where
from circuits.tuning.conditions import lora_targets
from circuits.tuning.finetune import finetune
from circuits.tuning.heads import (
    head_slices,
    important_heads,
    narrowed,
    train_heads_alone,
)
from circuits.tuning.lora_comparison import ComparedExamples, compare_lora_targets
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.projections import Projections
from circuits.tuning.targets import lora_config, trainable_parameters, wrap

MAPS = MapImportance(
    "edges",
    3,
    (
        RoleImportance(0, "q", (1.0, 2.0, 0.0, 0.0)),
        RoleImportance(0, "attention-output", (0.0, 0.0, 4.0, 0.0)),
        RoleImportance(1, "v", (0.0, 3.0)),
        RoleImportance(2, "mlp-in", (5.0,)),
    ),
)
SETTINGS = FinetuneSettings(steps=3, learning_rate=1e-2, warmup_steps=1, batch_size=4)


def kv_maps(n_kv):
    """`MAPS` of a model with so many KV heads."""
    values = RoleImportance(1, "v", (0.0, 3.0, *[0.0] * (n_kv - 2)))
    return replace(MAPS, roles=(*MAPS.roles[:2], values, MAPS.roles[3]))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.exhaustive_but("gpt2", "llama", "gpt-neox", "gemma2")
def test_a_slice_is_its_head_on_every_architecture(name, model_folder):
    """What a slice of a map reads or writes is what the attribution engine calls that head."""
    network = AutoModelForCausalLM.from_pretrained(model_folder(name), dtype=torch.float32)
    model = HookedModel(network, None, name)
    slices = head_slices(network)
    layout = model.layout
    expected = [*layout.readers, *layout.sources]
    assert {head.node for head in slices} == {node for node in expected if node.startswith("a")}
    attention = model.view.attentions[1]
    for head in (one for one in slices if one.layer == 1):
        matrix, features = (
            input_major(network.get_submodule(head.map)),
            slice(head.start, head.start + head.size),
        )
        if head.reads:
            (projection,) = [one for one in attention.projections if one.port == head.role]
            assert torch.equal(projection.weight[head.head], matrix[:, features])
        else:
            behind = 1.0 if attention.post is None else attention.post.weight
            assert torch.equal(attention.output_weight[head.head], matrix[features] * behind)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt-neox"])
@pytest.mark.exhaustive_but("gpt2", "llama")
def test_nothing_but_the_chosen_heads_changes(name, load, make_examples, tmp_path, model_folder):
    base = load(name)
    before = {key: value.clone() for key, value in base.state_dict().items()}
    n_kv = getattr(base.config, "num_key_value_heads", 4)
    maps = kv_maps(n_kv)
    heads = important_heads(head_slices(base), maps)
    assert sum(map(len, heads.values())) == 4
    whole = Projections.of(base)
    target = LoraTarget("heads", maps=maps, by_head=True)
    ranks = target.ranks(narrowed(whole, heads), 3000, 0)
    assert set(heads) <= set(ranks) and len(ranks) > len(heads), "the MLP has its share"
    model = wrap(base, lora_config(ranks, base))
    assert trainable_parameters(model) == whole.count(ranks)
    trained = train_heads_alone(model, heads)
    assert trained.parameters == narrowed(whole, heads).count(ranks) < whole.count(ranks)
    settings = replace(SETTINGS, weight_decay=0.1)
    result = finetune(model, make_examples(8), tmp_path, settings=settings, progress=False)
    trained.require_others_unchanged()

    fresh = AutoModelForCausalLM.from_pretrained(model_folder(name), dtype=torch.float32)
    with quiet_peft():
        merged = PeftModel.from_pretrained(fresh, result.last).merge_and_unload()
    changed = {}
    for key, value in merged.state_dict().items():
        if not torch.equal(value, before[key]):
            changed[key.removesuffix(".weight")] = value != before[key]
    assert set(changed) == set(ranks)
    for map_name, of_map in heads.items():
        conv1d = isinstance(merged.get_submodule(map_name), Conv1D)
        outputs = changed[map_name].T if conv1d else changed[map_name]  # (output, input)
        features = outputs.any(dim=1) if of_map[0].reads else outputs.any(dim=0)
        moved = set(features.nonzero().flatten().tolist())
        allowed = {f for head in of_map for f in range(head.start, head.start + head.size)}
        assert moved == allowed, map_name


def test_the_strongest_heads_anywhere():
    assert MAPS.heads_a_layer == 4 + 4 + 2
    two = MAPS.strongest_heads(2)
    assert [(one.role, one.heads) for one in two.roles] == [
        ("q", (0.0, 0.0, 0.0, 0.0)),
        ("attention-output", (0.0, 0.0, 4.0, 0.0)),
        ("v", (0.0, 3.0)),
        ("mlp-in", (5.0,)),
    ]
    assert MAPS.strongest_heads(100) == MAPS
    (target,) = lora_targets(("heads",), {}, MAPS, 1)
    assert target.maps == MAPS and target.by_head and target.criterion == "edges, by head"


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.exhaustive_but("llama")
def test_a_comparison_by_head(name, model_folder, make_examples, tmp_path, monkeypatch):
    maps = kv_maps(4 if name == "gpt2" else 2)
    targets = lora_targets(("modules", "heads"), {}, maps, 1)
    data = ComparedExamples(make_examples(8, end=0), make_examples(4, seed=1, end=0))
    asked = LoraProtocol(training=SETTINGS, seeds=(0,), rank=2)
    call = (model_folder(name), data, targets, asked, tmp_path)
    result = compare_lora_targets(*call)
    (whole,), (by_head,) = result.of("modules"), result.of("heads")
    kv = "h" if name == "gpt2" else "kv"
    assert by_head.heads == ("a0.h0<q>", "a0.h1<q>", "a0.h2", f"a1.{kv}1<v>")
    assert not whole.heads and by_head.layers == whole.layers == (0, 1, 2)
    assert by_head.ranks.keys() == whole.ranks.keys()
    assert max(by_head.ranks.values()) > max(whole.ranks.values()), "heads cost less a rank"
    folder = tmp_path / by_head.adapter
    base = AutoModelForCausalLM.from_pretrained(model_folder(name), dtype=torch.float32)
    with quiet_peft():
        adapted = PeftModel.from_pretrained(base, folder, is_trainable=True)
    moved = sum(int((p != 0).sum()) for n, p in adapted.named_parameters() if "lora_" in n)
    assert 0.8 * result.budget < by_head.parameters == moved <= result.budget
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"

    assert _where(by_head) == "0, 1, 2; heads: 2 q, 1 output and 1 v" and _where(whole) == "0, 1, 2"
    assert list(result.to_frame()["heads"]) == ["", ", ".join(by_head.heads)]

    monkeypatch.setattr("circuits.tuning.lora_comparison.finetune", None)
    assert compare_lora_targets(*call) == result
    fewer = lora_targets(("heads",), {}, maps.strongest_heads(3), 1)
    with pytest.raises(CircuitsError, match=r"heads/seed-0: holds another run \(heads: .*ranks: "):
        compare_lora_targets(*call[:2], fewer, *call[3:])


def test_what_is_not_by_head_is_refused(load, model_folder, make_examples, tmp_path):
    base = load("llama")
    heads = important_heads(head_slices(base), MAPS)
    (values,) = [name for name in heads if name.endswith("v_proj")]
    model = wrap(base, lora_config([1], base, parts=("v",)))
    with pytest.raises(CircuitsError, match=r"q_proj: it has no adapter"):
        train_heads_alone(model, heads)
    trained = train_heads_alone(model, {values: heads[values]})
    weight = model.get_parameter(f"base_model.model.{values}.lora_B.default.weight")
    with torch.no_grad():
        weight[-1] += 1e-8  # of the second KV head, which is chosen
    trained.require_others_unchanged()
    with torch.no_grad():
        weight[0, 0] = 1e-30
    with pytest.raises(CircuitsError, match=r"v_proj\.lora_B.*changes heads that were not"):
        trained.require_others_unchanged()

    base = load("llama")
    model = wrap(base, lora_config([1], base, parts=("v",), dora=True))
    with pytest.raises(CircuitsError, match="a DoRA scales whole rows"):
        train_heads_alone(model, {values: heads[values]})
    examples = make_examples(4, end=0)
    with pytest.raises(CircuitsError, match="condition 'heads': a DoRA scales whole rows"):
        compare_lora_targets(
            model_folder("llama"),
            ComparedExamples(examples, examples),
            lora_targets(("heads",), {}, MAPS, 1),
            LoraProtocol(training=SETTINGS, adapter=AdapterOptions(dora=True)),
            tmp_path,
        )
    with pytest.raises(CircuitsError, match="heads are chosen by importance of maps"):
        LoraTarget("heads", by_head=True)


def test_slices_are_of_the_layout(load):
    layout = Layout(3, 4, 2)
    nodes = {head.node for head in head_slices(load("llama"))}
    assert len(nodes) == 3 * (4 + 2 + 2 + 4)
    assert nodes < {*layout.readers, *layout.sources}
