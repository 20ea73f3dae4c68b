#!/usr/bin/env bash
# transformers x peft: activation checkpointing that was switched on and off again leaves a LoRA on the
# upper layers differentiated down to the first layer.
#
# Versions: transformers 5.23.0, peft 0.21.2, torch 2.13.0, Python 3.11.
# Behaviour: with a LoRA on the last layer alone nothing below that layer has a gradient, so the backward
# pass stops there, and that is what such adapters are chosen for. `activation_checkpointing_enable()`
# makes the embeddings' output require a gradient, which old checkpointing needed.
# `activation_checkpointing_disable()` switches checkpointing off and leaves that in place: every layer
# keeps its activations and is differentiated from then on, though no parameter in it is trained. The
# adapter's gradients are the same, so that nothing but time and memory tells.
# `disable_input_require_grads()` ends it.
# Seen: six layers, LoRA on the sixth: layers whose output has a gradient [5]; with checkpointing all six;
# switched off all six; after disable_input_require_grads [5]; gradients equal; the last line is
# "still differentiated".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    peft==0.21.2 transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import peft
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
base = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        use_cache=False,
    )
)
LORA = peft.LoraConfig(
    task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], layers_to_transform=[5]
)
model = peft.get_peft_model(base, LORA).train()
tokens = torch.arange(1, 17)[None]


def look():
    """Layers whose output has a gradient, and the adapter's gradients."""
    differentiated = []

    def note(layer):
        def hook(_, __, output):
            stream = output[0] if isinstance(output, tuple) else output
            if stream.requires_grad and layer not in differentiated:
                differentiated.append(layer)

        return hook

    handles = [
        layer.register_forward_hook(note(number)) for number, layer in enumerate(base.model.layers)
    ]
    model.zero_grad()
    model(tokens, labels=tokens).loss.backward()
    for handle in handles:
        handle.remove()
    return sorted(differentiated), [p.grad.clone() for p in model.parameters() if p.requires_grad]


plain, gradients = look()
base.activation_checkpointing_enable()
on, _ = look()
base.activation_checkpointing_disable()
off, same = look()
assert not base.is_activation_checkpointing
base.disable_input_require_grads()
ended, _ = look()
print("before:", plain)
print("on:", on)
print("off again:", off)
print("after disable_input_require_grads:", ended)
apart = max(float((a - b).abs().max()) for a, b in zip(gradients, same, strict=True))
print(f"the adapter's gradients differ by {apart:.1e}")
assert plain == ended == [5] and on == off == list(range(6)) and apart < 1e-7
print("still differentiated")
PY
"$work/venv/bin/python" "$work/try.py"
