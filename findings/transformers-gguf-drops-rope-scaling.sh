#!/usr/bin/env bash
# transformers x GGUF: a Llama whose rotary embeddings are scaled is loaded without the scaling, and
# nobody is told.
#
# Versions: transformers 5.23.0, gguf 0.19.0, torch 2.13.0, accelerate 1.15.0, Python 3.11.
# Behaviour: llama.cpp writes the scaling of rotary embeddings into a file as `rope_freqs.weight` (one
# divisor a frequency; every Llama 3.1, 3.2 and 3.3 has it) or as `llama.rope.scaling.type` and
# `.factor`. `AutoModelForCausalLM.from_pretrained(folder, gguf_file=...)` reads neither: the keys are
# not in its table, the tensor has no parameter and is skipped, both are told by logger.info alone,
# and the configuration says rope_type "default". The model computes something else at every position
# but the first, from the shortest texts on.
# Seen: three files with equal weights, one plain, one scaled by 4, one with Llama 3's divisors, give
# the same logits bit for bit; the last line is "the scaling is dropped".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.23.0 gguf==0.19.0 torch==2.13.0 accelerate==1.15.0 numpy
cat > "$work/try.py" <<'PY'
import sys

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM

D, HEADS, FF, VOCAB, LAYERS = 32, 4, 48, 64, 1
draw = np.random.default_rng(0)
SHAPES = {"token_embd": (VOCAB, D), "output": (VOCAB, D)} | {
    f"blk.0.{name}": shape
    for name, shape in {
        **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (D, D)),
        **dict.fromkeys(("ffn_gate", "ffn_up"), (FF, D)),
        "ffn_down": (D, FF),
    }.items()
}
WEIGHTS = {name: draw.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
NORMS = ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")


def logits(name, scaling=None, divisors=None):
    writer = gguf.GGUFWriter(f"{sys.argv[1]}/{name}.gguf", "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(D)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(D // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    if scaling is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling)
    for key, values in WEIGHTS.items():
        writer.add_tensor(f"{key}.weight", values)
    for key in NORMS:
        writer.add_tensor(f"{key}.weight", np.ones(D, np.float32))
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", np.array(divisors, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], gguf_file=f"{name}.gguf")
    print(name, model.config.rope_parameters)
    with torch.no_grad():
        return model(torch.arange(1, 33)[None]).logits


plain = logits("plain")
scaled = logits("linear", scaling=4.0)
llama3 = logits("llama3", divisors=[1.0, 1.5, 8.0, 8.0])
assert plain.std() > 0
assert torch.equal(plain, scaled) and torch.equal(plain, llama3)
print("the scaling is dropped")
PY
mkdir "$work/files"
"$work/venv/bin/python" "$work/try.py" "$work/files" 2>/dev/null
