"""A tokenizer that can be loaded again, as TransformerLens does to one that it is given."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from transformers import AutoTokenizer, PreTrainedTokenizerBase


@contextmanager
def reloadable(
    tokenizer: PreTrainedTokenizerBase | None,
) -> Iterator[PreTrainedTokenizerBase | None]:
    """A copy that says where it came from, for as long as the block lasts.

    TransformerLens 4.3 loads a tokenizer anew from there, to have the begin token added; one that
    was made from a GGUF file or in memory came from nowhere, and is saved for it.
    """
    if tokenizer is None or tokenizer.init_kwargs.get("name_or_path"):
        yield copy.deepcopy(tokenizer)
        return
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        saved: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        yield saved
