"""Byte-pair encoding, slowly: llama.cpp's patterns by name, and one merge after another.

The patterns are those that llama.cpp documents (src/llama-vocab.cpp, `llm_tokenizer_bpe`), adapted
there from the models' own.
"""

from itertools import pairwise

import regex
from tokenizers import pre_tokenizers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
SHORT = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (
    r"[^\r\n\p{{L}}\p{{N}}]?((?=[\p{{L}}])([^a-z]))*((?=[\p{{L}}])([^A-Z]))+{0}|"
    r"[^\r\n\p{{L}}\p{{N}}]?((?=[\p{{L}}])([^a-z]))+((?=[\p{{L}}])([^A-Z]))*{0}|{1}|"
    r" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = rf"{SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{TAIL}"
PATTERNS = {
    "gpt-2": [GPT2],
    "olmo": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "starcoder": [r"\p{N}", GPT2],
    "llama-bpe": [LLAMA3],
    "dbrx": [LLAMA3],
    "qwen2": [rf"{SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{TAIL}"],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "tekken": [CASED.format("", r"\p{N}")],
    "gpt-4o": [CASED.format(f"{SHORT}?", r"\p{N}{1,3}")],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "superbpe": [r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
}


def encode(text, name, tokens, merges, whole_words=False):
    """Token ids of a text without control tokens."""
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found = []
    for piece in pieces(text, PATTERNS[name]):
        word = "".join(part for part, _ in letters.pre_tokenize_str(piece))
        symbols = [word] if whole_words and word in tokens else merged(list(word), merges)
        found += [tokens.index(symbol) for symbol in symbols]
    return found


def pieces(text, patterns):
    """What each pattern matches, and what lies between, of what the ones before left."""
    parts = [text]
    for pattern in patterns:
        cut = []
        for part in parts:
            at = 0
            for match in regex.finditer(pattern, part):
                cut += [part[at : match.start()], match[0]]
                at = match.end()
            cut.append(part[at:])
        parts = [part for part in cut if part]
    return parts


def merged(symbols, merges):
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    while True:
        pairs = list(pairwise(symbols))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)), default=None)
        if best not in ranks:
            return symbols
        at = pairs.index(best)
        symbols[at : at + 2] = ["".join(best)]
