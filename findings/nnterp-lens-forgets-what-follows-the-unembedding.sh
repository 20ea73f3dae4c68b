#!/usr/bin/env bash
# nnterp: the logit lens of the last layer is not what the model says, where logits are scaled or capped.
#
# Versions: nnterp 1.3.0, nnsight 0.7.0, transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: `logit_lens` and `project_on_vocab` give unembedding(final norm(stream)). On Llama that is
# the model's own output at the last layer. Granite divides its logits by `logits_scaling`, Cohere
# and Cohere 2 multiply them by `logit_scale`, and Gemma 2 caps them by a tanh, all of it after the
# unembedding. The lens leaves that out without a word, so its probabilities are those of another
# temperature in every layer: the likeliest token stays the same, and how sure the
# model seems does not: its entropy, and the layer from which on the answer has a given probability.
# The library's own checks at load do not notice.
# Seen, the likeliest token's probability by the lens of the last layer and by the model: llama .459 and
# .459; gemma2 .874 and .855; granite .211 and .031; cohere .322 and .022; cohere2 .271 and .022. The
# last line is "the lens is the model on llama alone".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check nnterp==1.3.0 nnsight==0.7.0 \
    transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import torch
import transformers
from nnterp import StandardizedTransformer
from nnterp.interventions import logit_lens
from tokenizers import Tokenizer, models, pre_tokenizers

words = {f"w{number}": number for number in range(60)}
tokenizer = Tokenizer(models.WordLevel({**words, "<pad>": 60, "<unk>": 61}, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", padding_side="left"
)
sizes = dict(
    vocab_size=62,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    pad_token_id=60,
    bos_token_id=60,
    eos_token_id=60,
)
configs = {
    "llama": transformers.LlamaConfig(**sizes),
    "gemma2": transformers.Gemma2Config(**sizes, head_dim=8),
    "granite": transformers.GraniteConfig(**sizes, logits_scaling=8.0),
    "cohere": transformers.CohereConfig(**sizes),
    "cohere2": transformers.Cohere2Config(**sizes),
}
right = []
for name, config in configs.items():
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20)  # so that the model is sure of something
    prompt = "w3 w1 w4 w1 w5"
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        said = model(ids).logits[0, -1].softmax(-1)
    lens = logit_lens(StandardizedTransformer(model, tokenizer=tokenizer), [prompt])[0, -1]
    print(f"{name}: by the lens {lens.max():.3f}, by the model {said.max():.3f}")
    assert lens.argmax() == said.argmax()
    if torch.allclose(lens, said, atol=1e-5):
        right.append(name)
    else:
        assert lens.max() > said.max() + 0.01
assert right == ["llama"], right
print("the lens is the model on llama alone")
PY
HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py"
