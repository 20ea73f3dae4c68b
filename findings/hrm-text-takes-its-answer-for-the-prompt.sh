#!/usr/bin/env bash
# transformers x HRM-Text: without a cache, in chunks or with drafts, a prefix model takes its answer for the
# prompt.
#
# Versions: transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: HRM-Text (sapientinc/HRM-Text-1B, May 2026) reads its prompt in both directions and writes its
# answer from left to right; `token_type_ids` of 1 say what the prompt is. Greedy text must not depend on
# how it is computed. With the plain cache it is right, static or dynamic. But `generate` gives each
# new token the type of the last one, and the model looks at types on the first pass alone:
# 1. `use_cache=False`: the answer becomes prompt as it is written, and the prompt is read anew in the
#    light of it.
# 2. `prompt_lookup_num_tokens` and `assistant_model`: the first drafts are prompt too, so that the model
#    has seen what it is asked to predict. Even a model that helps itself writes another text.
# 3. `prefill_chunk_size`: only the first chunk is read in both directions.
# No warning is given. Where no types are given, so that all is causal, all seven ways give one text.
# Seen: a random HRM-Text, eight prompts, against a loop of plain passes written by hand: without a cache
# 6 of 8 texts differ, with prompt lookup 8, an assistant 8, itself as the assistant 7, chunks 7; with
# the cache, dynamic or static, none. The last line is "the answer is taken for the prompt".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import torch
from transformers import HrmTextConfig, HrmTextForCausalLM

NEW = 8
torch.set_num_threads(1)


def made(seed):
    model = HrmTextForCausalLM(
        HrmTextConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            head_dim=8,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            embedding_scale=1.0,
        )
    )
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in model.parameters():
            if values.ndim > 1:
                values.copy_(torch.randn(values.shape, generator=draw) * 1.2 / values.shape[-1] ** 0.5)
    return model.eval()


model = made(0)
# Some tokens come back, so that prompt lookup has drafts from the first step on.
prompts = torch.randint(5, 64, (8, 5), generator=torch.Generator().manual_seed(1)).repeat(1, 3)[:, :12]


@torch.no_grad()
def by_hand(prompt, of_prompt):
    """A plain pass for each token: the prompt's tokens of the given type, the answer's of type 0."""
    text = prompt[None]
    for _ in range(NEW):
        types = torch.zeros_like(text)
        types[:, : len(prompt)] = of_prompt
        logits = model(text, token_type_ids=types, use_cache=False).logits
        text = torch.cat([text, logits[:, -1:].argmax(-1)], dim=1)
    return text


def generated(prompt, of_prompt, **ways):
    return model.generate(
        prompt[None],
        attention_mask=torch.ones_like(prompt[None]),
        token_type_ids=torch.full_like(prompt[None], of_prompt),
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        **ways,
    )


WAYS = {
    "dynamic cache": ({}, 0),
    "static cache": ({"cache_implementation": "static", "disable_compile": True}, 0),
    "no cache": ({"use_cache": False}, 4),
    "prompt lookup": ({"prompt_lookup_num_tokens": 3}, 4),
    "an assistant": ({"assistant_model": made(5)}, 4),
    "itself as assistant": ({"assistant_model": made(0)}, 4),
    "chunks of 4": ({"prefill_chunk_size": 4}, 4),
}
right = {kind: [by_hand(prompt, kind) for prompt in prompts] for kind in (0, 1)}
assert any(not torch.equal(*pair) for pair in zip(right[0], right[1], strict=True))
for name, (way, least) in WAYS.items():  # how many texts differ at least
    differ = {
        kind: sum(
            not torch.equal(generated(prompt, kind, **way), text)
            for prompt, text in zip(prompts, right[kind], strict=True)
        )
        for kind in (0, 1)
    }
    print(f"{name}: {differ[1]} of 8 texts differ, {differ[0]} where the prompt is causal")
    assert differ[0] == 0 and (differ[1] >= least if least else differ[1] == 0)
print("the answer is taken for the prompt")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2> "$work/log" || {
    cat "$work/log" >&2
    exit 1
}
