r"""How text is cut into pieces before byte-pair merges, by the name that a GGUF file gives it.

The file names a rule (`tokenizer.ggml.pre`) and does not hold it. The names are llama.cpp's
(src/llama-vocab.cpp); the patterns are those of the models' own tokenizer.json, which llama.cpp
writes otherwise where its regular expressions know less. Each pattern of a rule cuts what the ones
before it left whole; what none of them matches is a piece too.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SHORT_FORMS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}"
_QWEN35 = (
    rf"{_SHORT_FORMS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}|"
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _cased(ending: str, digits: str) -> str:
    """Words that begin again at a capital behind small letters."""
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{ending}|"
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{ending}|{digits}|{_CASED_TAIL}"
    )


_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-\u30ff]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"


@dataclass(frozen=True)
class Rule:
    """patterns: applied one after another. whole_words: a piece that is a token is not merged.

    adds_bos: whether texts begin with the begin token where the file does not say.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    adds_bos: bool = False

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """Cuts a text, and writes its bytes as GPT-2's letters."""
        cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.patterns]
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([*cuts, letters])


_RULES = {
    Rule((_GPT2,)): (
        "gpt-2 phi-2 mpt olmo jais trillion granite-docling exaone4 gigachat a.x-4.0 mellum"
    ),
    Rule((r"\p{N}", _GPT2)): (
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"
    ),
    Rule((_LLAMA3,), whole_words=True, adds_bos=True): (
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2"
    ),
    Rule((_LLAMA3,)): "dbrx smaug-bpe glm4 chatglm-bpe",
    Rule((_QWEN2,)): "qwen2 deepseek-r1-qwen kormo megrez stablelm2 hunyuan solar-open grok-2",
    Rule((_QWEN35,)): "qwen35",
    Rule((_cased("", r"\p{N}"),), whole_words=True, adds_bos=True): "tekken",
    Rule((_cased(f"{_SHORT_FORMS}?", r"\p{N}{1,3}"),)): "gpt-4o llama4 kanana2 minimax-m2",
    Rule(_DEEPSEEK3): "deepseek-v3 hunyuan-dense joyai-llm",
    Rule(("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")): "deepseek-coder",
    Rule((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")): "falcon",
    Rule((_BLOOM,)): "bloom poro-chat gpt3-finnish",
    Rule((_BLOOM, r"\p{N}")): "viking",
    Rule((r"\p{N}+", r"(?=(\d{3})+(?!\d))")): "superbpe",
    Rule((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")): "default",
}
RULES = {name: rule for rule, names in _RULES.items() for name in names.split()}
"""By `tokenizer.ggml.pre`. "default" is what llama.cpp does where a file names no rule."""
