#!/usr/bin/env bash
# transformers' continuous batching x Gemma 2, VaultGemma: attention runs without its cap, on other logits than the
# model's.
#
# Versions: transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: Gemma 2 and VaultGemma cap their attention scores by a tanh (`attn_logit_softcapping`, 50), for which
# reason transformers gives them eager attention and refuses sdpa. `generate_batch`, the continuous batching
# that `transformers serve` and TRL's GRPO can use, replaces eager attention by one of its own, `paged|eager`,
# where no flash attention is installed. That one takes the cap among its other arguments and
# drops it. The greedy text is that of the same weights with the cap switched off. No message says so;
# the model gets its own attention back afterwards, so that `generate` on the same object is right again.
# Seen: small random models, eight prompts, sixteen greedy tokens: with eager attention, Llama's and Gemma 3's
# texts are those of `generate` (0 of 8 differ). Gemma 2's and VaultGemma's differ in 8 of 8, and equal in all 8
# what `generate` writes without the cap. The last line is "continuous batching drops the cap".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import torch
from transformers import (
    ContinuousBatchingConfig,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    VaultGemmaConfig,
    VaultGemmaForCausalLM,
)

torch.set_num_threads(1)
size = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
gemma = size | {"query_pre_attn_scalar": 16}
MODELS = {
    "Llama": (LlamaForCausalLM, lambda: LlamaConfig(**size, attn_implementation="eager")),
    "Gemma 3": (Gemma3ForCausalLM, lambda: Gemma3TextConfig(**gemma, attn_implementation="eager")),
    "Gemma 2": (Gemma2ForCausalLM, lambda: Gemma2Config(**gemma)),
    "VaultGemma": (VaultGemmaForCausalLM, lambda: VaultGemmaConfig(**gemma)),
}
draw = torch.Generator().manual_seed(0)
prompts = torch.randint(3, 128, (8, 12), generator=draw)
new = 16
greedy = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0)
blocks = ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=256)


def make(name, capped=True):
    kind, config = MODELS[name]
    config = config()
    if not capped:
        config.attn_logit_softcapping = None
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if "q_proj" in weight_name or "k_proj" in weight_name:
                weight.normal_(0, 1.2)  # scores of the size of the cap, as in trained models
            elif weight.dim() > 1:
                weight.normal_(0, 0.3)
    return model


def continuous(model):
    outputs = model.generate_batch(
        prompts.tolist(), generation_config=greedy, continuous_batching_config=blocks, progress_bar=False
    )
    return torch.tensor([output.generated_tokens for output in outputs.values()])


def plain(model):
    return model.generate(prompts, generation_config=greedy)[:, prompts.shape[1] :]


for name in MODELS:
    model = make(name)
    right, batched = plain(model), continuous(model)
    assert torch.equal(plain(model), right)
    line = f"{name}: {int((right != batched).any(1).sum())} of {len(prompts)} texts differ from generate's"
    if name in ("Llama", "Gemma 3"):
        assert torch.equal(right, batched)
    else:
        off = plain(make(name, capped=False))
        line += f", {int((off != batched).any(1).sum())} from generate's without the cap"
        assert not torch.equal(right, batched) and torch.equal(off, batched)
    print(line)
print("continuous batching drops the cap")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" 2> "$work/log" || {
    cat "$work/log" >&2
    exit 1
}
