"""A small GPT-2 with a tokenizer of its own, for the scripts that redo a study without a download.

It reads lists of words that come again in the same order, and from them learns to copy: what comes
after a word is what came after it before (Olsson et al. 2022, induction). On top of that it reads
the sentences that a script gives it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from train_newsroom_model import INIT, fit
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuits.files import atomic_path

END = "<|endoftext|>"
CONTEXT, BATCH = 48, 16
LISTS = 0.7  # share of repeated word lists among the documents


def train(
    out: Path,
    words: Sequence[str],
    sentences: Sequence[str],
    sentence: Callable[[random.Random], str],
    *,
    steps: int,
    seed: int = 0,
    layers: int = 3,
    heads: int = 4,
    width: int = 64,
) -> None:
    """Write a trained model with its tokenizer to a folder, unless it is there already.

    words: the words of the lists. sentences: texts with the other words, so that each is a token.
    sentence: draws a document that is no list.
    """
    if (out / "config.json").exists():
        return
    torch.manual_seed(seed)
    tokenizer = word_tokenizer(words, sentences)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=CONTEXT,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=INIT,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )
    rng = random.Random(f"small gpt2 {seed}")

    def row() -> list[int]:
        ids: list[int] = []
        while len(ids) < CONTEXT:
            text = repeated_list(rng, words) if rng.random() < LISTS else sentence(rng)
            ids += [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        return ids[:CONTEXT]

    fit(model, (torch.tensor([row() for _ in range(BATCH)]) for _ in range(steps)), steps)
    with atomic_path(out) as folder:
        folder.mkdir()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def word_tokenizer(words: Sequence[str], sentences: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose merges go on until every word, with its space, is one token."""
    bpe = ByteLevelBPETokenizer()
    plain = sorted({word for text in sentences for word in re.findall(r"\w+", text)})
    text = [f" {word}" for word in (*words, *plain)] + list(sentences)
    bpe.train_from_iterator(
        text, 100_000, min_frequency=1, special_tokens=[END], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
    )


def repeated_list(rng: random.Random, words: Sequence[str]) -> str:
    """Random words, repeated as they are."""
    drawn = rng.choices(words, k=rng.randint(3, 12))
    return "".join(f" {word}" for word in drawn * 3)
