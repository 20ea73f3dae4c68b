#!/usr/bin/env bash
# transformers x ProphetNet: the logits of a text's start change when the text gets longer, by its
# length alone, so that what teacher forcing measures is not what generation does.
#
# Versions: transformers 5.23.0, torch 2.13.0, Python 3.11.
# Behaviour: a causal decoder gives the first positions the same logits whatever follows. ProphetNet's
# does not: run on eight tokens, its logits at the first five differ from those of a run on these five
# alone. Other tokens in the last place change nothing at the first (with ngram=2, the default), so it is
# the length that does it. Step by step, with or without a cache, a text is judged as a run on each
# prefix judges it; its loss in one pass, as in training or when perplexity is measured, is of other
# logits. It is so with one, two and three n-grams and with 8 or 32 buckets. Of twenty other
# encoder-decoders (BART, Pegasus, Marian, LED, LongT5, UMT5 and more) none decodes otherwise with a
# cache than without, which is how this was found.
# Seen: of a largest logit of about 1, five tokens alone against the first five of eight: 1e-2 and more;
# another last token: 0; BART, the same two questions: below 1e-6; the last line is "the length
# alone changes the prefix".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0
cat > "$work/try.py" <<'PY'
import torch
import transformers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    ProphetNetConfig,
    ProphetNetForConditionalGeneration,
)

transformers.logging.set_verbosity_error()
SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)
prophetnet = ProphetNetConfig(
    vocab_size=97,
    hidden_size=32,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    num_encoder_layers=2,
    num_decoder_layers=2,
    num_encoder_attention_heads=4,
    num_decoder_attention_heads=4,
    max_position_embeddings=64,
    **SPECIAL,
)
bart = BartConfig(
    vocab_size=97,
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    max_position_embeddings=64,
    **SPECIAL,
)


def moved(kind, config):
    """How far the first five logits move by length, and by another last token; of the largest."""
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
        source, text = torch.randint(3, 97, (1, 13)), torch.randint(3, 97, (1, 8))
        other = text.clone()
        other[0, -1] = 3 + (other[0, -1] - 2) % 94

        def first(tokens):
            out = model(input_ids=source, decoder_input_ids=tokens, use_cache=False)
            return out.logits[0, :5]

        whole = first(text)
        scale = whole.abs().max()
        by_length = (whole - first(text[:, :5])).abs().max() / scale
        by_token = (whole - first(other)).abs().max() / scale
        changed = (model(input_ids=source, decoder_input_ids=other).logits[0, -1]
                   - model(input_ids=source, decoder_input_ids=text).logits[0, -1]).abs().max()
        assert changed > 1e-4  # the other token is not the same to the model
    return float(by_length), float(by_token)


found = moved(ProphetNetForConditionalGeneration, prophetnet)
beside = moved(BartForConditionalGeneration, bart)
print(f"ProphetNet: by length {found[0]:.1e}, by another last token {found[1]:.1e}")
print(f"BART:       by length {beside[0]:.1e}, by another last token {beside[1]:.1e}")
assert found[0] > 1e-3 and found[1] < 1e-6 and max(beside) < 1e-5
print("the length alone changes the prefix")
PY
"$work/venv/bin/python" "$work/try.py"
