"""A prompt pair that somebody types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from circuits.errors import InputError
from circuits.models import HookedModel
from tasks.pairs import PairSet, PromptPair
from tasks.text.tokens import added_begin, encode, following

SOURCE = "the prompts that were typed"


@dataclass(frozen=True)
class Typed:
    """What was typed.

    clean, corrupted: the prompts. correct, incorrect: what should follow, and what should not, each
    with its leading space; or token ids, as "#42". Empty ones are what the model says.
    """

    clean: str
    corrupted: str
    correct: str = ""
    incorrect: str = ""


@dataclass(frozen=True)
class Token:
    """One token: its id, and its text by itself."""

    id: int
    text: str


def typed_pairs(
    model: HookedModel, clean: str, corrupted: str, correct: str = "", incorrect: str = ""
) -> PairSet:
    """One prompt pair from text, as the explorer's page makes it.

    Args:
        model: whose tokenizer reads the text, and which answers where no answer is given.
        clean: the prompt; it begins as the tokenizer begins a text.
        corrupted: its twin, of as many tokens.
        correct: what should follow, with its space; or a token id, as "#42". Empty: the clean
            prompt's most likely next token.
        incorrect: what should not follow, of as many tokens. Empty: the corrupted prompt's most
            likely next token where nothing was given at all, else none.

    Returns:
        A set of one pair; its metric is the logit difference where there is a wrong answer, else
        the log-probability of the right one.

    Raises:
        InputError: for prompts of unequal length or without a difference, and answers that do not
            fit each other.
    """
    first, second = tokens_of(model, clean), tokens_of(model, corrupted)
    require_alignment(first, second)
    right = _answer(model, first, correct) or (likeliest(model, first),)
    wrong = _answer(model, first, incorrect)
    if not wrong and not correct:
        likeliest_token = likeliest(model, second)
        wrong = () if likeliest_token == right[0] else (likeliest_token,)
    if wrong and len(wrong) != len(right):
        raise InputError(
            f"the right answer has {len(right)} tokens and the wrong one {len(wrong)}; give as "
            "many, or leave the wrong one empty"
        )
    pair = PromptPair(
        clean=first,
        corrupted=second,
        answer=tuple((token,) for token in right),
        wrong=tuple((token,) for token in wrong),
        source=SOURCE,
    )
    metric = "logit-difference" if wrong else "answer-log-probability"
    return PairSet((pair,), task="typed", metric=metric)


def tokens_of(model: HookedModel, text: str) -> tuple[int, ...]:
    """The tokens of a prompt, with what the tokenizer puts before a text."""
    return (*added_begin(model.tokenizer), *encode(model.tokenizer, text))


def texts_of(model: HookedModel, tokens: Sequence[int]) -> list[Token]:
    """Tokens with their texts, each by itself."""
    decode = model.tokenizer.decode
    return [Token(token, str(decode([token]))) for token in tokens]


def require_alignment(clean: Sequence[int], corrupted: Sequence[int]) -> None:
    """Refuse prompts that do not lie side by side, and say where they part."""
    if not clean or not corrupted:
        raise InputError("type a clean and a corrupted prompt")
    if len(clean) == len(corrupted):
        return
    part = next(
        (position for position, (a, b) in enumerate(zip(clean, corrupted, strict=False)) if a != b),
        min(len(clean), len(corrupted)),
    )
    raise InputError(
        f"the clean prompt has {len(clean)} tokens and the corrupted one {len(corrupted)}; they "
        f"part at position {part}. Patching needs equal lengths, position by position: exchange "
        "words for words of as many tokens"
    )


@torch.no_grad()
def likeliest(model: HookedModel, tokens: Sequence[int]) -> int:
    """The token that the model puts behind a prompt."""
    return int(_last_logits(model, tokens).argmax())


def _last_logits(model: HookedModel, tokens: Sequence[int]) -> torch.Tensor:
    """Logits behind a prompt; the pair's other half differs, as pairs must."""
    twin = (*tokens[:-1], (tokens[-1] + 1) % model.d_vocab)
    pairs = PairSet((PromptPair(tuple(tokens), twin, ((0,),), source=SOURCE),))
    model.validate(pairs)
    batch = pairs.batch([0]).to(model.device)
    return model.logits(batch.clean, batch)[0]


def _answer(model: HookedModel, prompt: Sequence[int], text: str) -> tuple[int, ...]:
    """The tokens of an answer behind a prompt; none for an empty text."""
    if text.startswith("#") and text[1:].isdecimal():
        return (int(text[1:]),)
    return following(model.tokenizer, prompt, text) if text else ()


def swapped(pairs: PairSet) -> PairSet:
    """The same pairs with clean and corrupted exchanged: patching them restores, in the corrupted
    run, what the clean run holds.
    """
    return replace(
        pairs,
        pairs=tuple(
            replace(pair, clean=pair.corrupted, corrupted=pair.clean) for pair in pairs.pairs
        ),
    )
