#!/usr/bin/env bash
# peft x X-LoRA: merging gives a model that the adapter never was, and nobody is told.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: X-LoRA runs several LoRAs at once and a small gate decides, anew for every token and layer,
# how much of each. No fixed weights equal that. `merge_and_unload()` is there all the same, returns a
# plain model without a warning, and that model is the base plus every LoRA in full, as if the gate
# said 1 for all of them always.
# Seen: the merged model's logits equal those of the plain sum of both LoRAs (1e-7), and are as far off
# the X-LoRA's as the logits' whole spread (0.094 of 0.092); the last line is "the gate is dropped".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    peft==0.21.2 transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import sys
import warnings

import peft
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

BASE = f"{sys.argv[1]}/base"
tokens = torch.arange(1, 17)[None]

torch.manual_seed(0)
shape = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    use_cache=False,
)
LlamaForCausalLM(shape).save_pretrained(BASE)
folders = {}
for name in ("0", "1"):
    one = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(BASE),
        peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    for parameter, values in one.named_parameters():
        if "lora_B" in parameter:
            torch.nn.init.normal_(values, std=0.5)
    folders[name] = f"{sys.argv[1]}/{name}"
    one.save_pretrained(folders[name])


@torch.no_grad()
def logits(model):
    return model.eval()(tokens).logits


both = peft.PeftModel.from_pretrained(
    AutoModelForCausalLM.from_pretrained(BASE), folders["0"], adapter_name="0"
)
both.load_adapter(folders["1"], adapter_name="1")
both.base_model.set_adapter(["0", "1"])
total = logits(both)

gated = peft.get_peft_model(
    AutoModelForCausalLM.from_pretrained(BASE),
    peft.XLoraConfig(task_type="CAUSAL_LM", hidden_size=32, xlora_depth=1, adapters=folders),
)
right = logits(gated)
with warnings.catch_warnings():
    warnings.simplefilter("error")
    merged = logits(gated.merge_and_unload())


def apart(one, other):
    return (one - other).abs().max().item()


print(f"spread of the logits: {right.std():.3f}")
print(f"merged against X-LoRA: {apart(merged, right):.3f}")
print(f"merged against the plain sum of both LoRAs: {apart(merged, total):.1e}")
assert right.std() > 0.05
assert apart(merged, right) > 0.5 * right.std()
assert apart(merged, total) < 1e-5
print("the gate is dropped")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    exit 1
}
