#!/usr/bin/env bash
# transformers x T5 v1.1: a configuration that says "not tied" makes a model whose head is tied.
#
# Versions: transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: `T5Config(tie_word_embeddings=False)`, which is what T5 v1.1, Flan-T5 and mT5 are, keeps
# from it only that the decoder's outputs are not scaled (`scale_decoder_outputs=False`); the field
# itself reads True afterwards, also in a saved config.json. A model made from it has one matrix for
# embeddings and head, without the scaling that a tied T5 needs: neither T5 nor T5 v1.1. A
# checkpoint with a head of its own keeps it when loaded, though the loaded model's configuration
# still says that the two are tied, and a warning advises to set the field that was set. What goes by
# the field (a count of parameters, a pruner, an exporter) takes Flan-T5 for tied.
# Seen: the field True, head and embeddings the same tensor, no scaling; after loading a file with
# both matrices they differ and the field is True; the last line is "untied means tied".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import json
import sys
from pathlib import Path

import torch
from transformers import T5Config, T5ForConditionalGeneration

torch.manual_seed(0)
asked = T5Config(
    vocab_size=64,
    d_model=16,
    d_kv=4,
    d_ff=32,
    num_layers=1,
    num_heads=2,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
)
made = T5ForConditionalGeneration(asked)
print("asked for False, the field reads", asked.tie_word_embeddings)
print("head and embeddings are one tensor:", made.lm_head.weight is made.shared.weight)
print("outputs are scaled:", asked.scale_decoder_outputs)
assert asked.tie_word_embeddings is True and asked.scale_decoder_outputs is False
assert made.lm_head.weight is made.shared.weight

folder = Path(sys.argv[1]) / "t5"
made.lm_head.weight = torch.nn.Parameter(torch.randn(64, 16))
made.save_pretrained(folder)
config = json.loads((folder / "config.json").read_text())
config["tie_word_embeddings"] = False  # as in the files of Flan-T5
(folder / "config.json").write_text(json.dumps(config))
loaded = T5ForConditionalGeneration.from_pretrained(folder)
same = torch.equal(loaded.lm_head.weight, loaded.shared.weight)
print("loaded: equal", same, "- the field reads", loaded.config.tie_word_embeddings)
assert not same and torch.equal(loaded.lm_head.weight, made.lm_head.weight)
assert loaded.config.tie_word_embeddings is True
print("untied means tied")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    exit 1
}
