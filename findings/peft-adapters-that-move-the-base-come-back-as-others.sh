#!/usr/bin/env bash
# peft x PiSSA (fast) and LoRA-GA: an adapter that is saved and loaded is another model.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: these initialisations begin with matrices that are not zero and take as much from the base
# weight, so that nothing changes at first. The adapter's folder holds the matrices, not what was taken.
# Loading does it again: plain PiSSA and OLoRA find the same by an exact factorisation; pissa_niter_N,
# the fast one that is recommended for large models, begins from random numbers and finds another, and
# LoRA-GA, whose gradients are gone, takes nothing. Neither says a word.
# Seen: untrained adapters, which leave the base's logits as they are (3e-6 of their spread), come back
# with logits off by twice their spread, for pissa_niter_16 and lora_ga. On SmolLM2-135M, all linear
# maps, rank 16, pissa_niter_4: the next token of "the capital of Italy is" changes and the divergence
# is 9.8 nats (pissa_niter_16: 6.5). The last line is "two of five come back as other models".
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
from peft.tuners.lora.config import LoraGAConfig
from peft.tuners.lora.loraga import preprocess_loraga
from transformers import LlamaConfig, LlamaForCausalLM

tokens = torch.arange(1, 17)[None]


def base():
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
    )
    for values in model.parameters():
        if values.ndim == 2:
            torch.nn.init.normal_(values, std=0.15)
    return model.eval()


@torch.no_grad()
def logits(model):
    return model.eval()(tokens).logits


def reloaded(**given):
    """A fresh adapter's distance from the base, and from itself after saving and loading."""
    model = base()
    config = peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj", "up_proj"], task_type="CAUSAL_LM", **given)
    if config.init_lora_weights == "lora_ga":
        preprocess_loraga(model, config, lambda: model(tokens, labels=tokens).loss.backward())
    torch.manual_seed(1)
    adapted = peft.get_peft_model(model, config)
    before = logits(adapted)
    folder = f"{sys.argv[1]}/{config.init_lora_weights}"
    adapted.save_pretrained(folder)
    torch.manual_seed(2)  # another process, another seed
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said of it
        warnings.simplefilter("ignore", FutureWarning)
        after = logits(peft.PeftModel.from_pretrained(base(), folder))
    spread = before.std().item()
    fresh, lost = ((before - other).abs().max().item() / spread for other in (logits(base()), after))
    print(f"{config.init_lora_weights}: from the base {fresh:.0e}, reloaded {lost:.0e}")
    return fresh, lost


for init, kept in (
    (True, True),
    ("olora", True),
    ("pissa", True),
    ("pissa_niter_16", False),
    ("lora_ga", False),
):
    extra = {"lora_ga_config": LoraGAConfig()} if init == "lora_ga" else {}
    fresh, lost = reloaded(init_lora_weights=init, **extra)
    assert fresh < 1e-3, init
    assert lost < 1e-3 if kept else lost > 0.1, init
print("two of five come back as other models")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    exit 1
}
