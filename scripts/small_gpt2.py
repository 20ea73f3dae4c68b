"""A small GPT-2 with a tokenizer of its own, for the scripts that redo a study without a download.

It reads documents of several kinds, one kind a row. From lists of words that come again in the same
order it learns to copy: what comes after a word is what came after it before (Olsson et al. 2022,
induction).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from train_newsroom_model import INIT, fit
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuits.errors import CircuitsError
from circuits.runtime.files import atomic_path, read_json, write_json

Document = Callable[[random.Random], str]

END = "<|endoftext|>"
BATCH = 16
_RECORD = "small_gpt2.json"


@dataclass(frozen=True)
class Settings:
    """The model, and how long it is trained. context: tokens of a row."""

    steps: int
    seed: int = 0
    n_ctx: int = 48
    layers: int = 3
    heads: int = 4
    width: int = 64


def train(
    out: Path,
    tokenizer: PreTrainedTokenizerFast,
    documents: Mapping[Document, float],
    settings: Settings,
) -> None:
    """Write a trained model with its tokenizer to a folder, unless it is there already.

    documents: what draws a document of each kind, and its share of the rows.
    """
    record = {**asdict(settings), "vocabulary": len(tokenizer)}
    if out.exists():
        saved = read_json(out / _RECORD)
        if saved != record:
            raise CircuitsError(
                f"{out}: a model trained with {saved}, and {record} is asked for; write to another "
                "place, or delete it"
            )
        return
    torch.manual_seed(settings.seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=settings.n_ctx,
            n_embd=settings.width,
            n_layer=settings.layers,
            n_head=settings.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=INIT,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )
    rng = random.Random(f"small gpt2 {settings.seed}")

    def row() -> list[int]:
        (draw,) = rng.choices(list(documents), list(documents.values()))
        ids: list[int] = []
        while len(ids) < settings.n_ctx:
            ids += [*tokenizer(draw(rng))["input_ids"], tokenizer.eos_token_id]
        return ids[: settings.n_ctx]

    batches = (torch.tensor([row() for _ in range(BATCH)]) for _ in range(settings.steps))
    fit(model, batches, settings.steps)
    with atomic_path(out) as folder:
        folder.mkdir()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / _RECORD, record)


def word_tokenizer(words: Sequence[str], sentences: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose merges go on until every word, with its space, is one token.

    sentences: texts whose words are tokens as well; those that begin one also without a space.
    """
    bpe = ByteLevelBPETokenizer()
    plain = sorted({word for text in sentences for word in re.findall(r"\w+", text)})
    text = [f" {word}" for word in (*words, *plain)] + list(sentences)
    bpe.train_from_iterator(
        text, 100_000, min_frequency=1, special_tokens=[END], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token=END, eos_token=END, pad_token=END
    )


def repeated(words: Sequence[str]) -> Document:
    """Lists of random words, repeated as they are."""

    def draw(rng: random.Random) -> str:
        sample = rng.choices(words, k=rng.randint(3, 12))
        return "".join(f" {word}" for word in sample * 3)

    return draw
