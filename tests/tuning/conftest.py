"""Random examples of unequal length, and fresh models to train."""

from __future__ import annotations

import random

import pytest
import torch
import transformers

from tasks.pairs import TrainingExample


@pytest.fixture
def make_examples():
    def make(n=10, seed=0, d_vocab=300, end=None):
        dice = random.Random(seed)

        def tokens(least, most):
            return tuple(dice.randrange(1, d_vocab) for _ in range(dice.randint(least, most)))

        ending = () if end is None else (end,)
        return [
            TrainingExample(tokens(5, 12), (*tokens(1, 4), *ending), f"example {row}")
            for row in range(n)
        ]

    return make


@pytest.fixture
def load(model_folder):
    """name -> a fresh copy of a tiny random model, float32."""

    def fresh(name: str, **changes):
        folder = model_folder(name)
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, **changes
        )

    return fresh


@pytest.fixture(scope="session")
def small_gpt2_folder(tmp_path_factory, tokenizer):
    """A GPT-2 of 2 layers that learns fast: no dropout, mild weights."""
    folder = tmp_path_factory.mktemp("small") / "gpt2"
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=32,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
