#!/usr/bin/env bash
# PEFT x mixtures of experts: "LoRA in layer 0 only" trains the experts of every layer, and not layer 0's MLP.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: transformers 5 keeps a layer's experts as one stacked parameter, so PEFT turns the old names
# `gate_proj`, `up_proj`, `down_proj` into parameter targets when the model is of a family it knows. Those
# targets do not look at `layers_to_transform`: for Qwen3-MoE and OLMoE any choice of layers adapts the
# experts of all layers, as many trained numbers as without a choice, and no warning speaks of layers. The names are taken
# out of the module targets at the same time: DeepSeek-V2 and V3 keep plain linear maps of these names in
# their first, dense layers and in their shared experts, which then get no adapter at all, whatever layers
# are asked for. Qwen2-MoE's shared experts and dense Qwen3 follow the choice as documented.
# So a study of which layers to adapt compares the same adapter with itself on these models.
# Seen: the lines printed below; the last is "the layers are forgotten".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  peft==0.21.2 transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import re

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
MLP = ["gate_proj", "up_proj", "down_proj"]
SIZES = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
EXPERTS = dict(num_experts_per_tok=2, moe_intermediate_size=16)
DEEPSEEK = dict(
    **EXPERTS,
    num_key_value_heads=4,
    kv_lora_rank=8,
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=8,
    n_routed_experts=4,
    n_shared_experts=1,
    first_k_dense_replace=1,
    n_group=1,
    topk_group=1,
)
FAMILIES = {
    "qwen3_moe": dict(**EXPERTS, num_key_value_heads=2, head_dim=8, num_experts=4),
    "olmoe": dict(num_key_value_heads=2, num_experts=4, num_experts_per_tok=2),
    "deepseek_v2": dict(**DEEPSEEK, q_lora_rank=None, topk_method="greedy"),
    "deepseek_v3": dict(**DEEPSEEK, q_lora_rank=16),
    "qwen2_moe": dict(
        **EXPERTS, num_key_value_heads=2, num_experts=4, shared_expert_intermediate_size=16
    ),
    "qwen3": dict(num_key_value_heads=2, head_dim=8),
}


def adapted(family, layers):
    """Layers with an adapter, how many numbers are trained, and the linear maps of an MLP without one."""
    config = AutoConfig.for_model(family, **SIZES, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config)
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.split(".")[-1] in MLP
    }
    asked = LoraConfig(r=2, target_modules=MLP, layers_to_transform=layers)
    wrapped = get_peft_model(model, asked)
    trained = [(name, p.numel()) for name, p in wrapped.named_parameters() if p.requires_grad]
    where = {int(re.search(r"layers\.(\d+)\.", name).group(1)) for name, _ in trained}
    left = {name for name in linear if not any(f"{name}." in held for held, _ in trained)}
    return sorted(where), sum(size for _, size in trained), sorted(left)


found = {family: (adapted(family, [0]), adapted(family, None)) for family in FAMILIES}
for family, ((layers, size, left), (_, everywhere, never)) in found.items():
    print(f"{family}: asked for layer 0, adapted {layers}, {size} numbers of {everywhere} for all;")
    print(f"    linear maps of an MLP without an adapter when all layers are asked for: {len(never)}")
for family in ("qwen3_moe", "olmoe"):
    (layers, size, _), (_, everywhere, _) = found[family]
    assert layers == [0, 1, 2] and size == everywhere
for family in ("deepseek_v2", "deepseek_v3"):
    (layers, size, left), (_, everywhere, never) = found[family]
    assert layers == [1, 2] and size == everywhere and left == never
    assert "model.layers.0.mlp.down_proj" in never and len(never) == 9
for family in ("qwen2_moe", "qwen3"):
    (layers, size, _), (_, everywhere, never) = found[family]
    assert layers == [0] and size * 3 == everywhere and not never
print("the layers are forgotten")
PY
"$work/venv/bin/python" "$work/try.py"
