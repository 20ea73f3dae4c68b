#!/usr/bin/env bash
# PEFT x Jamba: an adapter on `dt_proj` gets no gradient, changes nothing, and changes the model once merged.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: PEFT refuses `out_proj` of the Mamba models that it knows by name, since their kernels read the
# weight past the module. Jamba's mixer reads `dt_proj.weight` in the same way, on a CPU too, and
# `target_modules="all-linear"` takes it: the adapter is counted among the trained parameters, gets no
# gradient, and has no part in the output; all other adapters are trained. With weights in that adapter,
# as after loading one that was trained elsewhere, `merge_and_unload` gives another model than the one that
# ran before.
# Seen: 1 of the 14 adapters without gradient (`mamba.dt_proj`); filling it moves the logits by exactly 0,
# merging it by more than 1e-3 of the largest; the last line is "dt_proj is never trained".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  peft==0.21.2 transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
config = AutoConfig.for_model(
    "jamba",
    vocab_size=97,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    attn_layer_period=2,
    attn_layer_offset=1,
    expert_layer_period=8,
    expert_layer_offset=7,
    num_experts=2,
    mamba_d_state=8,
    mamba_dt_rank=4,
    use_mamba_kernels=False,
)
model = AutoModelForCausalLM.from_config(config).eval()
with torch.no_grad():
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(3)
tokens = torch.randint(3, 97, (1, 24))
wrapped = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"))
ups = {name: p for name, p in wrapped.named_parameters() if "lora_B" in name}

wrapped(tokens, labels=tokens).loss.backward()
without = [name for name, p in ups.items() if p.grad is None or not p.grad.any()]
print(f"adapters: {len(ups)}, without gradient: {[name.split('.')[-4] for name in without]}")

with torch.no_grad():
    before = wrapped(tokens).logits
    for name in without:
        ups[name].normal_(std=0.1)
    filled = wrapped(tokens).logits
    merged = wrapped.merge_and_unload()(tokens).logits
top = before.abs().max()
moved, after = float((filled - before).abs().max()), float((merged - filled).abs().max() / top)
print(f"filled: logits move by {moved:.1e}; merged: by {after:.1e} of the largest")
assert len(ups) == 14 and len(without) == 1 and "dt_proj" in without[0]
assert moved == 0 and after > 1e-3
print("dt_proj is never trained")
PY
"$work/venv/bin/python" "$work/try.py"
