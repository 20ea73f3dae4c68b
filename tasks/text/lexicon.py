"""Words that fill the slots of generated prompts: the lists, their splits, and what a tokenizer
makes of them.

A word belongs to train, validation or test by its own hash, so that splits share no word. A set of
prompts uses words of one length in tokens: its prompts then differ from their twins at the slots
only, and most tasks need the answer to be a single token.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from transformers import PreTrainedTokenizerBase

from tasks import splits
from tasks.errors import CircuitsError
from tasks.named_splits import Split

GENERATED = ("train", "validation", "test")
_CARRIER = "the"  # a word in a slot follows another word


@cache
def words(kind: str) -> tuple[str, ...]:
    """The list of that name in `words.json`: first_names, surnames, players, events, ..."""
    content = json.loads(files("tasks.text").joinpath("words.json").read_text(encoding="utf-8"))
    return tuple(content[kind])


def require_split(task: str, split: Split) -> None:
    """Refuse what a generated task has no words for."""
    if split not in GENERATED:
        raise CircuitsError(f"{task}: no split {split!r}; it has: {', '.join(GENERATED)}")


def of_split(listed: Sequence[str], split: Split) -> list[str]:
    """The words that belong to the split."""
    return [word for word in listed if splits.part(word) == split]


def by_length(
    tokenizer: PreTrainedTokenizerBase, listed: Sequence[str]
) -> dict[int, dict[str, tuple[int, ...]]]:
    """Tokens of each word where it follows another word, by their number.

    Left out: words that the tokenizer has no tokens for, that merge with what stands before them,
    or that have the tokens of an earlier word.
    """
    if not listed:
        return {}
    texts = [_CARRIER, *(f"{_CARRIER} {word}" for word in listed)]
    carrier_ids, *all_ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    groups: dict[int, dict[str, tuple[int, ...]]] = defaultdict(dict)
    seen_tokens = set()
    for word, ids in zip(listed, all_ids, strict=True):
        tokens = tuple(ids[len(carrier_ids) :])
        unknown = tokenizer.unk_token_id in tokens and tokenizer.unk_token_id is not None
        if (
            ids[: len(carrier_ids)] == carrier_ids
            and tokens
            and not unknown
            and tokens not in seen_tokens
        ):
            seen_tokens.add(tokens)
            groups[len(tokens)][word] = tokens
    return groups


def single_tokens(
    tokenizer: PreTrainedTokenizerBase, listed: Sequence[str], least: int, what: str
) -> list[str]:
    """The words that are one token each after a space; fewer than `least` is an error."""
    groups = by_length(tokenizer, listed)
    singles = list(groups.get(1, ()))
    if len(singles) < least:
        longer = [word for length, group in sorted(groups.items()) if length > 1 for word in group]
        example = ""
        if longer:
            tokens = next(group[longer[0]] for group in groups.values() if longer[0] in group)
            example = f" ({longer[0]!r} is {tokenizer.convert_ids_to_tokens(list(tokens))})"
        raise CircuitsError(
            f"{what}: {len(singles)} of {len(listed)} are single tokens of this tokenizer after a "
            f"space{example}, and at least {least} are needed"
        )
    return singles


def of_one_length(
    tokenizer: PreTrainedTokenizerBase, listed: Sequence[str], least: int, what: str
) -> list[str]:
    """Words that all have equally many tokens: as few as leave at least `least` words."""
    groups = by_length(tokenizer, listed)
    for _, group in sorted(groups.items()):
        if len(group) >= least:
            return list(group)
    counts = ", ".join(f"{len(group)} of {length}" for length, group in sorted(groups.items()))
    raise CircuitsError(
        f"{what}: no {least} of {len(listed)} have equally many tokens with this tokenizer "
        f"(words of so many tokens: {counts or 'none'})"
    )
