"""Whether prompts begin as the texts that a model was trained on: with its begin token.

A model that never saw a text without one is out of its depth, and so is every circuit found there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from circuits.models.special_tokens import token_ids
from tasks.text.tokens import added_begin


def missing_begin(
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    prompts: Collection[Sequence[int]],
) -> str | None:
    """One line on prompts that lack the begin token; None where they have it or there is none.

    It is what the tokenizer puts before a text by itself; where it puts nothing, what the
    configuration names, unless that also ends texts (GPT-2's end-of-text token parts documents, and
    no prompt needs one).
    """
    begin = () if tokenizer is None else added_begin(tokenizer)
    by_tokenizer = bool(begin)
    if not by_tokenizer:
        text = config.get_text_config()
        # Some configurations have no such field: T5's texts begin with nothing.
        ids = (getattr(text, name, None) for name in ("bos_token_id", "eos_token_id"))
        named = token_ids(next(ids)) - token_ids(next(ids))
        if len(named) != 1:
            return None
        begin = (*named,)
    lacking = sum(tuple(prompt[: len(begin)]) != begin for prompt in prompts)
    if not lacking:
        return None
    said = "" if tokenizer is None else str(tokenizer.decode(list(begin)))
    name = repr(said) if said else f"of id {begin[0]}"  # which the tokenizer may not have
    which = "the prompts" if lacking == len(prompts) else f"{lacking} of {len(prompts)} prompts"
    if by_tokenizer:
        return (
            f"{which} do not begin with {name}, which the tokenizer puts before a text by itself; "
            "the model may be out of its depth without it (add_bos=auto puts it there)"
        )
    offer = ""
    if tokenizer is not None and tokenizer.bos_token_id == begin[0]:
        offer = "; if the model was trained behind it, add_bos=true puts it there"
    return (
        f"the model's configuration names the begin token {name}, and neither the tokenizer nor "
        f"{which} put it first{offer}"
    )
