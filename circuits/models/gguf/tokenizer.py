"""The tokenizer in a GGUF file: its vocabulary, merges, control tokens and chat template.

Two kinds are read: byte-level BPE (`tokenizer.ggml.model` gpt2) with the rule that the file names
for cutting text, and SentencePiece BPE (`llama`), whose merges follow from its pieces' scores.
"""

from __future__ import annotations

from typing import TypeVar

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from circuits.errors import CircuitsError
from circuits.models.gguf.container import GGUF
from circuits.models.gguf.pretokenizers import RULES, Rule
from circuits.models.load_errors import abbreviated, first_sentence
from circuits.runtime.notices import say

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "sep": "seperator"}
_SENTENCEPIECE_IDS = {"bos": 1, "eos": 2, "unk": 0}
"""llama.cpp's, where a SentencePiece file does not say."""


def load_tokenizer(file: GGUF) -> PreTrainedTokenizerFast:
    """The tokenizer of the model in a file; a CircuitsError says why it cannot be had."""
    words = _Words(file)
    kind = words.get("model")
    if kind == "gpt2":
        rule = _rule(words)
        tokenizer, adds_bos = _byte_level(words, rule), rule.adds_bos
    elif kind == "llama":
        tokenizer, adds_bos = _sentencepiece(words), True
    else:
        raise CircuitsError(
            f"{file.path}: it holds no tokenizer"
            if kind in (None, "none", "no_vocab")
            else f"{file.path}: a tokenizer of kind {kind!r} is not read; known: gpt2 (byte-level "
            "BPE), llama (SentencePiece)"
        )
    tokenizer.add_tokens([words.added(token_id) for token_id in words.of_type(_USER_DEFINED)])
    tokenizer.add_special_tokens(
        [words.added(token_id) for token_id in words.of_type(_CONTROL, _UNKNOWN)]
    )
    _frame(tokenizer, words, adds_bos)
    fast_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_max_length=file.get("context_length", int(1e30)),
        **{
            f"{role}_token": words.tokens[special_id]
            for role in _ROLES
            if (special_id := words.role(role)) is not None
        },
    )
    fast_tokenizer.chat_template = _chat_template(file)
    return fast_tokenizer


T = TypeVar("T")


class _Words:
    """What the file says of its tokenizer, each list as long as the vocabulary."""

    def __init__(self, file: GGUF) -> None:
        self.file = file
        self.tokens: list[str] = self.entries("tokens", str)
        self.types: list[int] = self.entries("token_type", int, [_NORMAL] * len(self.tokens))
        self.tokens = [token or f"[EMPTY_{token_id}]" for token_id, token in enumerate(self.tokens)]
        self.token_ids = {token: token_id for token_id, token in enumerate(self.tokens)}
        if len(self.token_ids) != len(self.tokens):
            twice = [
                token
                for token_id, token in enumerate(self.tokens)
                if self.token_ids[token] != token_id
            ]
            raise CircuitsError(
                f"{file.path}: tokens stand twice in the vocabulary: {abbreviated(twice)}"
            )

    def get(self, key: str, default: object = None) -> object:
        return self.file.metadata.get(f"tokenizer.ggml.{key}", default)

    def entries(self, key: str, kind: type[T], default: list[T] | None = None) -> list[T]:
        values = self.get(key, default)
        if not isinstance(values, list):
            raise CircuitsError(f"{self.file.path}: its tokenizer has no {key}")
        if key != "tokens" and key != "merges" and len(values) != len(self.tokens):
            raise CircuitsError(
                f"{self.file.path}: its tokenizer has {len(self.tokens)} tokens and {len(values)} "
                f"entries in {key}"
            )
        entries = [value for value in values if isinstance(value, kind)]
        if len(entries) != len(values):
            raise CircuitsError(
                f"{self.file.path}: {key} of its tokenizer are not all of type {kind.__name__}"
            )
        return entries

    def role(self, role: str) -> int | None:
        """The id of the begin token, say, if there is one in the vocabulary."""
        token_id = self.get(f"{_ROLES[role]}_token_id")
        if token_id is None and self.get("model") == "llama":
            token_id = _SENTENCEPIECE_IDS.get(role)
        return token_id if isinstance(token_id, int) and 0 <= token_id < len(self.tokens) else None

    def of_type(self, *types: int) -> list[int]:
        return [token_id for token_id, token_type in enumerate(self.types) if token_type in types]

    def added(self, token_id: int) -> AddedToken:
        """Found in the text as it is written, before anything else is."""
        special = self.types[token_id] != _USER_DEFINED
        return AddedToken(self.tokens[token_id], special=special, normalized=False)


def _rule(words: _Words) -> Rule:
    name = words.get("pre") or "default"
    if name == "default":
        say(
            f"{words.file.path}: does not say how its tokenizer cuts text; cut as llama.cpp does "
            "then, which may not be as the model knows it (another tokenizer: --tokenizer)"
        )
    if name not in RULES:
        raise CircuitsError(
            f"{words.file.path}: its tokenizer cuts text by the rule {name!r}, which is not known "
            "here, and the file does not hold it; name the model's own tokenizer with --tokenizer "
            "(tokenizer=)"
        )
    return RULES[name]


def _byte_level(words: _Words, rule: Rule) -> Tokenizer:
    merges = []
    for line in words.entries("merges", str):
        at = line.find(" ", 1)
        merges.append((line[:at], line[at + 1 :]))
    tokenizer = _made(words, merges, ignore_merges=rule.whole_words)
    tokenizer.pre_tokenizer = rule.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(words: _Words) -> Tokenizer:
    unknown = words.role("unk")
    tokenizer = _made(
        words,
        _merges(words),
        unk_token=None if unknown is None else words.tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )
    prefix = words.get("add_space_prefix", True)  # behind an added token too, as in Llama 2's
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), spaces] if prefix else [spaces]
    )
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*back, decoders.Strip(" ", 1, 0)] if prefix else back)
    return tokenizer


def _made(words: _Words, merges: list[tuple[str, str]], **settings: object) -> Tokenizer:
    try:
        return Tokenizer(models.BPE(vocab=words.token_ids, merges=merges, **settings))
    except Exception as error:  # what tokenizers raises has no type of its own
        raise CircuitsError(
            f"{words.file.path}: its merges and vocabulary do not fit ({first_sentence(error)})"
        ) from error


def _merges(words: _Words) -> list[tuple[str, str]]:
    """Pairs of pieces by the score of what they make, as SentencePiece joins them."""
    scores = words.entries("scores", float)
    normal = words.of_type(_NORMAL)
    ids = {words.tokens[normal_id]: normal_id for normal_id in normal}
    merges: list[tuple[str, str]] = []
    for token_id in sorted(normal, key=scores.__getitem__, reverse=True):
        piece = words.tokens[token_id]
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        valid_pairs = [pair for pair in pairs if pair[1] in ids and pair[0] in ids]
        merges += (
            valid_pairs
            if len(valid_pairs) < 2
            else sorted(valid_pairs, key=lambda pair: ids[pair[0]])
        )
    return merges


def _frame(tokenizer: Tokenizer, words: _Words, adds_bos: bool) -> None:
    """What the tokenizer puts before and behind each text by itself."""
    before: list[tuple[str, int]] = []
    behind: list[tuple[str, int]] = []
    for role, into, default in (("bos", before, adds_bos), ("eos", behind, False)):
        if not words.get(f"add_{role}_token", default):
            continue
        token_id = words.role(role)
        if token_id is None:
            raise CircuitsError(
                f"{words.file.path}: its tokenizer adds a {role} token and does not name one"
            )
        into.append((words.tokens[token_id], token_id))
    if before or behind:
        single = [*(name for name, _ in before), "$A", *(name for name, _ in behind)]
        second = [
            *(f"{name}:1" for name, _ in before),
            "$B:1",
            *(f"{name}:1" for name, _ in behind),
        ]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=[*single, *second], special_tokens=[*before, *behind]
        )


def _chat_template(file: GGUF) -> object:
    """One template, or several by name."""
    default = file.metadata.get("tokenizer.chat_template")
    prefix = "tokenizer.chat_template."
    named = {
        key.removeprefix(prefix): value
        for key, value in file.metadata.items()
        if key.startswith(prefix)
    }
    if not named:
        return default
    return {**({"default": default} if default else {}), **named}
