#!/usr/bin/env bash
# transformers x MiniMax: a left-padded prompt is right for one token and wrong for all that follow.
#
# Versions: transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: `generate` on a batch of prompts of unequal length, padded on the left with their mask, as
# for any decoder. In MiniMax, whose layers are linear attention and full attention by turns, the padded
# row's first token has the logits of the prompt alone, and every later token other ones; so a batch
# writes other text than its prompts one by one. Without the cache the padded row is right at every
# token, and so is the row that needs no padding. With layers of one kind only nothing is wrong. Of
# nine other models that mix recurrent and full attention, asked the same (Jamba, Bamba, Qwen3-Next,
# Falcon-H1, LFM2, Nemotron-H, OLMo hybrid and two more), none does it.
# Seen: of the largest logit, the padded row is off by less than 1e-5 at the first token and by more than 1e-2
# at the second; without the cache by less than 1e-5 at both; the last line is "the padding is
# forgotten".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()


def off(kinds, use_cache):
    """How far the padded row's first two tokens are from the prompt alone, of the largest logit."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "minimax",
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=2,
        num_experts_per_tok=1,
        block_size=8,
        max_position_embeddings=64,
        layer_types=kinds,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    short, long = torch.randint(2, 97, (1, 5)), torch.randint(2, 97, (1, 9))
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), short], dim=1)
    batch = torch.cat([padded, long])
    asked = dict(
        max_new_tokens=2,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=0,
    )
    alone = model.generate(short, attention_mask=torch.ones_like(short), **asked).logits
    beside = model.generate(
        batch, attention_mask=(batch != 0).long(), use_cache=use_cache, **asked
    ).logits
    return [
        float((one[0] - row[0]).abs().max() / one.abs().max())
        for one, row in zip(alone, beside, strict=True)
    ]


MIXED = ["linear_attention", "full_attention"]
found = {
    "cache": off(MIXED, True),
    "no cache": off(MIXED, False),
    "linear only": off(MIXED[:1] * 2, True),
    "full only": off(MIXED[1:] * 2, True),
}
for name, values in found.items():
    print(f"{name}: first token {values[0]:.1e}, second {values[1]:.1e}")
assert found["cache"][0] < 1e-5 and found["cache"][1] > 1e-2
assert all(max(values) < 1e-5 for name, values in found.items() if name != "cache")
print("the padding is forgotten")
PY
"$work/venv/bin/python" "$work/try.py"
