#!/usr/bin/env bash
# trl: DPO with `precompute_ref_log_probs` takes the reference of an earlier run that had another `ld_alpha`.
#
# Versions: trl 1.16.0, transformers 5.23.0, torch 2.13.0, accelerate 1.15.0, datasets 5.2.0, Python 3.11.
# Behaviour: the reference's log-probabilities are computed once and kept in a file beside the data's cache,
# under a key of the data and the reference's weights. What else they depend on is not in the key: `ld_alpha`
# (LD-DPO), which weighs the tokens of the longer answer behind the shared length, has its part in them. A
# second run with another `ld_alpha` on the same file of data finds the first run's and subtracts them from its
# own, weighed otherwise. The policy then seems to differ from its own reference before the first step,
# by as much as the answers' lengths differ. Nobody is told. It takes `max_length=None`: by the source, a
# length makes a filter part of the data's key, and that filter holds all settings.
# Seen: before the first step policy and reference are one model, so that the loss is ln 2 and the margin 0.
# In three runs one after the other: without `ld_alpha` loss 0.693, margin 0.000; with 0.5 0.151 and 1.883;
# with 0.0 0.031 and 3.767. Each alone on fresh data: 0.693 and 0.000. The last line is "the first run's reference".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    trl==1.16.0 transformers==5.23.0 torch==2.13.0 accelerate==1.15.0 datasets==5.2.0
cat > "$work/try.py" <<'PY'
import json
import math
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

torch.set_num_threads(1)
work = Path(sys.argv[1])
words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"w{number}": number for number in range(3, 60)}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
)
draw = torch.Generator().manual_seed(0)


def text(length):
    return " ".join(f"w{number}" for number in torch.randint(3, 60, (length,), generator=draw).tolist())


rows = [{"prompt": text(5) + " ", "chosen": text(9), "rejected": text(4)} for _ in range(4)]
(work / "rows.json").write_text(json.dumps(rows))


def first_step(ld_alpha, cache):
    """The loss and the margin that the trainer logs for its first step."""
    data = load_dataset("json", data_files=str(work / "rows.json"), split="train", cache_dir=str(work / cache))
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=60,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.5,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    )
    settings = DPOConfig(
        output_dir=str(work / "out"),
        precompute_ref_log_probs=True,
        ld_alpha=ld_alpha,
        max_length=None,
        per_device_train_batch_size=4,
        max_steps=1,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    trainer = DPOTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    return trainer.state.log_history[0]["loss"], trainer.state.log_history[0]["rewards/margins"]


for ld_alpha in (None, 0.5, 0.0):
    loss, margin = first_step(ld_alpha, "shared")
    alone, none = first_step(ld_alpha, f"alone-{ld_alpha}")
    print(f"ld_alpha {ld_alpha}: loss {loss:.3f}, margin {margin:.3f}; on fresh data {alone:.3f}, {none:.3f}")
    assert abs(alone - math.log(2)) < 1e-5 and abs(none) < 1e-5
    if ld_alpha is None:
        assert abs(loss - math.log(2)) < 1e-5
    else:
        assert abs(loss - math.log(2)) > 0.3 and margin > 1
print("the first run's reference")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    exit 1
}
