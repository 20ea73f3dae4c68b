"""Whether prompts begin as the texts that a model was trained on: with its begin token.

A model that never saw a text without one is out of its depth, and so is every circuit found there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from circuits.graph.provenance import MissingBegin
from circuits.models.special_tokens import token_ids
from tasks.text.tokens import added_begin


def missing_begin(
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    prompts: Collection[Sequence[int]],
) -> MissingBegin | None:
    """What prompts lack at their beginning; None where they have the token or there is none.

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
    token = "" if tokenizer is None else str(tokenizer.decode(list(begin)))
    return MissingBegin(
        ids=begin,
        token=token or None,  # the tokenizer may not have it
        named_by="tokenizer" if by_tokenizer else "configuration",
        n_lacking=lacking,
        n=len(prompts),
        offered=by_tokenizer or (tokenizer is not None and tokenizer.bos_token_id == begin[0]),
    )
