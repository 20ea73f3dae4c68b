"""What a patched run is read by: every metric by name, and single tokens.

`probability`, `logit` and `rank` are of the right answer. After a colon stands a token of one's
own, as the tokenizer writes it, space included: `rank: Paris` is the rank of " Paris"; `rank:#42`
that of token id 42. Means over an example's answer positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from circuits.errors import CircuitsError
from circuits.metrics import METRICS, Logits, Metric, metric_for
from circuits.models import HookedModel
from tasks.pairs import PairBatch, PairSet
from tasks.text.tokens import encode, following, token_named

Tokens = Int[Tensor, "read k"]


def readouts(
    model: HookedModel, pairs: PairSet, names: str | Sequence[str] | None
) -> tuple[Metric, ...]:
    """The metrics of those names; None gives the pairs' own."""
    wanted = [names or pairs.metric] if names is None or isinstance(names, str) else list(names)
    if not wanted:
        raise CircuitsError("no metric was named; leave it out for the task's own")
    return tuple(_readout(model, pairs, name) for name in dict.fromkeys(wanted))


def _readout(model: HookedModel, pairs: PairSet, name: str) -> Metric:
    kind, colon, text = name.partition(":")
    if kind not in _KINDS:
        if name in METRICS:
            return metric_for(pairs, name)
        names = ", ".join((*METRICS, *_KINDS))
        raise CircuitsError(
            f"unknown metric {name!r}; known: {names}; the last three also of a token, "
            "as in 'rank: Paris'"
        )
    token = _token(model, pairs, text, name) if colon else None

    def values(logits: Logits, batch: PairBatch, _: Logits) -> Float[Tensor, " batch"]:
        tokens = batch.answer if token is None else batch.answer.new_full((len(logits), 1), token)
        read = _KINDS[kind](logits, tokens)
        total = read.new_zeros(len(batch)).index_add(0, batch.example_index, read)
        return total / torch.bincount(batch.example_index, minlength=len(batch))

    return Metric(name, values, differentiable=kind != "rank")


def _token(model: HookedModel, pairs: PairSet, text: str, name: str) -> int:
    if text.startswith("#") and text[1:].isdigit():
        token = int(text[1:])
        if token >= model.d_vocab:
            raise CircuitsError(
                f"{name!r}: token id {token} is outside the vocabulary of {model.d_vocab}"
            )
        return token
    named = token_named(model.tokenizer, text)
    return _behind(model.tokenizer, text, pairs, name) if named is None else named


def _behind(tokenizer: PreTrainedTokenizerBase, text: str, pairs: PairSet, name: str) -> int:
    """The token of a text behind the prompts, where the answers stand; where it merges with their
    ends, the one that it is alone.
    """
    encodings: set[tuple[int, ...]] = set()
    for pair in pairs:
        with suppress(CircuitsError):
            encodings.add(following(tokenizer, pair.clean, text))
    tokens = encodings.pop() if len(encodings) == 1 else ()
    if len(tokens) != 1:
        alone = encode(tokenizer, text)
        tokens = alone if len(alone) == 1 or not tokens else tokens
    if len(tokens) != 1:
        pieces = tokenizer.convert_ids_to_tokens(list(tokens))
        raise CircuitsError(
            f"{name!r}: {text!r} is {len(tokens)} tokens {pieces}, not one; mind the space that "
            "most tokenizers put before a word"
        )
    return tokens[0]


def _probability(logits: Logits, tokens: Tokens) -> Float[Tensor, " read"]:
    """Probability of the tokens together."""
    probabilities = logits.softmax(dim=-1).gather(1, tokens.clamp(min=0))
    return (probabilities * (tokens >= 0)).sum(dim=1)


def _logit(logits: Logits, tokens: Tokens) -> Float[Tensor, " read"]:
    """Mean logit of the tokens."""
    present = tokens >= 0
    return (logits.gather(1, tokens.clamp(min=0)) * present).sum(dim=1) / present.sum(dim=1)


def _rank(logits: Logits, tokens: Tokens) -> Float[Tensor, " read"]:
    """How many tokens are more likely than the likeliest of these, plus one."""
    answer_logits = logits.gather(1, tokens.clamp(min=0)).masked_fill(tokens < 0, -torch.inf)
    best = answer_logits.amax(dim=1, keepdim=True)
    return (logits > best).sum(dim=1).to(logits.dtype) + 1


_KINDS: dict[str, Callable[[Logits, Tokens], Float[Tensor, " read"]]] = {
    "probability": _probability,
    "logit": _logit,
    "rank": _rank,
}
