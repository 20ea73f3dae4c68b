#!/usr/bin/env bash
# transformers 5 x forward hooks: whether `hidden_states` shows an intervention depends on what the
# model was asked for before.
#
# Versions: transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: one expects `hidden_states` to be what the next layer read. Forward hooks collect them,
# which are put on the layers the first time that `output_hidden_states` is asked for, and stay. Hooks
# run in the order of registration and each one sees what those before it returned:
# 1. A hook that steers or ablates a layer's output is seen in `hidden_states` if it was registered
#    before that first time, and is not if it came later. The logits are steered both times, bit for
#    bit alike. Reading the clean run first, as one does, is what makes the steered run look clean.
#    (The last entry comes from after the final norm and is always right.)
# 2. Hooks removed by clearing `_forward_hooks`, a common idiom, take the collectors with them; they
#    are never put on again, and `hidden_states` is empty from then on.
# `register_forward_hook(hook, prepend=True)` is right in both orders.
# Seen: the mean of the steered layer's state 100.0 with the hook first, 0.0 with the hook later, equal
# logits; 100.0 with prepend; 4 states before clearing and 0 after; the last line is "the order decides".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import torch
from transformers import LlamaConfig, LlamaForCausalLM

STEERED = 1
tokens = torch.arange(8)[None]


def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
        )
    ).eval()


def add_100(module, args, output):
    return output + 100.0


def run(asked):
    with torch.no_grad():
        out = asked(tokens, output_hidden_states=True)
    return out.logits, out.hidden_states


first = model()
first.model.layers[STEERED].register_forward_hook(add_100)
logits, states = run(first)
print(f"hook, then states: {states[STEERED + 1].mean():.1f}")

later = model()
clean_logits, _ = run(later)
handle = later.model.layers[STEERED].register_forward_hook(add_100)
later_logits, later_states = run(later)
print(f"states, then hook: {later_states[STEERED + 1].mean():.1f}")
assert torch.equal(logits, later_logits) and not torch.equal(logits, clean_logits)
assert states[STEERED + 1].mean() > 99
assert later_states[STEERED + 1].mean().abs() < 1

handle.remove()
later.model.layers[STEERED].register_forward_hook(add_100, prepend=True)
_, prepended = run(later)
print(f"states, then hook with prepend: {prepended[STEERED + 1].mean():.1f}")
assert torch.equal(prepended[STEERED + 1], states[STEERED + 1])

before = len(later_states)
for module in later.modules():
    module._forward_hooks.clear()
_, cleared = run(later)
print(f"states before clearing hooks: {before}, after: {len(cleared)}")
assert before == 4 and len(cleared) == 0
print("the order decides")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py"
