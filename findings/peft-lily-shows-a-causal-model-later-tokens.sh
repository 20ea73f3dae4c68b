#!/usr/bin/env bash
# peft x Lily: with this adapter a causal language model sees later tokens, and the other prompts of its batch.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: Lily mixes its shared B matrices by a small router. The router's softmax is averaged over
# all positions of all prompts in the batch, padding among them, and that one mixture serves everything.
# So the logits of a position depend on tokens behind it and on the prompts beside it; a training loss
# may use what it has to predict, and generation with a cache, where a step sees one token, computes
# another function than training did. No message says so.
# Seen: with a random Llama, changing the last token leaves the logits before it exactly as they were;
# with a Lily adapter they move by 0.8 of their spread, as much as from putting another prompt into the
# batch; the logits at position 3 have a gradient with respect to every later token. The last line is "a
# causal model sees what comes later".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    peft==0.21.2 transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
base = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
)
for values in base.parameters():
    if values.ndim == 2:
        torch.nn.init.normal_(values, std=0.2)
tokens = torch.arange(1, 17)[None]
later = tokens.clone()
later[0, -1] = 50  # only the last token is another one
others = torch.cat([tokens, tokens.flip(1)])


@torch.no_grad()
def logits(model, ids):
    return model.eval()(ids).logits


def seen(model):
    """How far the logits of a prompt's first 15 positions move, of their spread."""
    right = logits(model, tokens)[:, :-1]
    moved = [logits(model, later)[:, :-1], logits(model, others)[:1, :-1]]
    return [((one - right).abs().max() / right.std()).item() for one in moved]


print("base: last token changed {:.0e}, beside another prompt {:.0e}".format(*seen(base)))
assert max(seen(base)) < 1e-5
adapted = peft.get_peft_model(
    base,
    peft.LilyConfig(task_type="CAUSAL_LM", r=8, num_B=2, target_modules=["q_proj", "v_proj", "o_proj"]),
)
for name, values in adapted.named_parameters():
    if values.requires_grad:
        torch.nn.init.normal_(values, std=0.3)
print("Lily: last token changed {:.3f}, beside another prompt {:.3f}".format(*seen(adapted)))
assert min(seen(adapted)) > 0.01
for parameter in adapted.parameters():
    parameter.requires_grad_(False)
embeds = adapted.get_input_embeddings()(tokens).requires_grad_()
adapted(inputs_embeds=embeds).logits[0, 3].sum().backward()
print("gradient of position 3's logits by position:", [f"{x:.2f}" for x in embeds.grad[0].norm(dim=-1).tolist()][:8])
assert embeds.grad[0, 4:].abs().max() > 0
print("a causal model sees what comes later")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    exit 1
}
