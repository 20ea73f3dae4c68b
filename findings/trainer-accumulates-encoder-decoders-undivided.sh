#!/usr/bin/env bash
# transformers' Trainer x T5, BART, Pegasus ...: accumulated gradients are summed where they should be averaged.
#
# Versions: transformers 5.23.0, accelerate 1.15.0, torch 2.13.0, Python 3.11.
# Behaviour: Trainer divides a micro-batch's loss by the number of accumulated batches only where the
# model is thought not to do so itself, and takes any model whose forward has **kwargs for one that
# divides by num_items_in_batch. T5, BART, MBart, Pegasus, Marian, M2M-100, LED, LongT5, ProphetNet and
# every other encoder-decoder tried (19 of 19) have **kwargs and ignore that number, so their gradients
# are not divided at all: the step, and the loss that is logged, grow with gradient_accumulation_steps.
# Clipping, on by default, hides the gradient's size and so changes what it does; no warning is given.
# Seen: one step of plain SGD over the same eight rows, as one batch and as eight accumulated ones.
# GPT-2's steps are the same (1.000); T5's and BART's are 8.000 times as long, in the same direction.
# The logged training loss is 33 in place of 4. The last line is "the encoder-decoders' steps grow with
# the number of accumulated batches". A compute_loss_func that divides by num_items_in_batch mends it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.23.0 accelerate==1.15.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import sys

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
)

ends = {"pad_token_id": 0, "eos_token_id": 2}
MODELS = {
    "GPT-2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32, resid_pdrop=0,
                   embd_pdrop=0, attn_pdrop=0, bos_token_id=2, eos_token_id=2)
    ),
    "T5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
                 dropout_rate=0, decoder_start_token_id=0, **ends)
    ),
    "BART": lambda: BartForConditionalGeneration(
        BartConfig(vocab_size=64, d_model=32, encoder_layers=2, decoder_layers=2,
                   encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
                   decoder_ffn_dim=64, max_position_embeddings=32, dropout=0,
                   decoder_start_token_id=2, forced_eos_token_id=2, bos_token_id=1, **ends)
    ),
}  # fmt: skip
draw = torch.Generator().manual_seed(0)
rows = [torch.randint(3, 64, (12,), generator=draw).tolist() for _ in range(8)]
data = [{"input_ids": row, "attention_mask": [1] * 12, "labels": row} for row in rows]


def step(name, accumulation):
    """How one step of plain SGD over the same eight rows moves the weights."""
    torch.manual_seed(0)
    model = MODELS[name]()
    before = torch.cat([values.detach().flatten() for values in model.parameters()]).clone()
    settings = Seq2SeqTrainingArguments(
        output_dir=f"{sys.argv[1]}/{name}-{accumulation}",
        per_device_train_batch_size=8 // accumulation,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=0.1,
        optim="sgd",
        max_grad_norm=0,
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    Seq2SeqTrainer(model=model, args=settings, train_dataset=data).train()
    return torch.cat([values.detach().flatten() for values in model.parameters()]) - before


for name, expected in (("GPT-2", 1), ("T5", 8), ("BART", 8)):
    whole, parts = step(name, 1), step(name, 8)
    times = (parts.norm() / whole.norm()).item()
    same = torch.nn.functional.cosine_similarity(parts, whole, dim=0).item()
    print(f"{name}: the step is {times:.3f} times as long, in the same direction ({same:.6f})")
    assert abs(times - expected) < 0.01 and same > 0.9999
print("the encoder-decoders' steps grow with the number of accumulated batches")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    exit 1
}
