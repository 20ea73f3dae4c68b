#!/usr/bin/env bash
# transformers x RWKV: generating for two prompts at once mixes them up from the second token on.
#
# Versions: transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: two prompts of equal length, no padding. The first new token's logits are those of each
# prompt alone. Every later one comes from a step with the state kept, and there the shift of one token
# is broadcast over the batch: the step gives two rows of logits for a prompt's one token, (2, 2, vocabulary) in all, and what
# `generate` takes from them belongs to neither prompt. One prompt at a time is right, and equals a run
# without the state. `generate` says nothing.
# Seen: logits of shape (2, 2, 97); the first prompt's second token is off by more than a tenth of the
# largest logit in the batch, and by less than 1e-6 alone; the last line is "the batch is mixed".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import torch
import transformers
from transformers import RwkvConfig, RwkvForCausalLM

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
model = RwkvForCausalLM(
    RwkvConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        attention_hidden_size=32,
        context_length=64,
    )
).eval()
prompts, then = torch.randint(2, 97, (2, 9)), torch.tensor([[5], [7]])
with torch.no_grad():
    both, alone = model(prompts, use_cache=True), model(prompts[:1], use_cache=True)
    first = float((both.logits[0] - alone.logits[0]).abs().max())
    step = model(then, state=both.state, use_cache=True).logits
    single = model(then[:1], state=alone.state, use_cache=True).logits
    whole = model(torch.cat([prompts[:1], then[:1]], dim=1)).logits[0, -1]
scale = float(whole.abs().max())
apart = [float((logits[0, -1] - whole).abs().max()) / scale for logits in (step, single)]
print("first token, batch against alone:", f"{first / scale:.1e}")
print("shape of a step's logits:", tuple(step.shape))
print("second token against a whole run:", f"batch {apart[0]:.1e}, alone {apart[1]:.1e}")
assert first / scale < 1e-5 and tuple(step.shape) == (2, 2, 97)
assert apart[0] > 0.1 and apart[1] < 1e-5
print("the batch is mixed")
PY
"$work/venv/bin/python" "$work/try.py"
