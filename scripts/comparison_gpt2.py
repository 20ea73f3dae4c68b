"""The small GPT-2 of reproduce_comparison.py: it answers both tasks, unseen originals too."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from small_gpt2 import Settings, repeated, train, word_tokenizer
from transformers import PreTrainedTokenizerBase

import tasks
from circuits.models import load_model
from circuits.options.tuning import FinetuneSettings
from circuits.tuning.finetune import finetune
from tasks.builtin.comparison import NUMBERS, ORIGINAL_PLAYERS, TEMPLATE
from tasks.builtin.name_copying import FILLERS, INTRODUCTIONS, MENTIONS, ORIGINAL
from tasks.generated import Generated
from tasks.pairs import TrainingExample
from tasks.text.lexicon import words

BATCH = 32  # of the fine-tuning; about half of it of each task
EXAMPLES = 20_000  # of each task, at most
APART = ({"Michelle", "Laura"}, {"Jones", "Smith"})  # names that no text but a list holds together


def small(folder: Path, steps: int, tuning_steps: int, seed: int) -> str:
    """Train it, unless it is there; the folder of the last checkpoint."""
    names = {name for player in words("players") for name in player.split()}
    names |= {*words("first_names"), *words("surnames")}
    sentences = [ORIGINAL.format(name, "Jones") for name in words("first_names")]
    tokenizer = word_tokenizer(
        [*sorted(names), *NUMBERS], [TEMPLATE, *INTRODUCTIONS, *FILLERS, *MENTIONS, *sentences]
    )

    documents = {repeated(sorted(names)): 0.7, lambda rng: "".join(introduced(rng)): 0.3}
    base = folder / "base"
    train(base, tokenizer, documents, Settings(steps, seed, n_ctx=64))
    count = min(EXAMPLES, tuning_steps * BATCH // 2)
    examples = [
        *answered("comparison", tokenizer, count),
        *answered("name-copying", tokenizer, count // 2),
        *as_originally(tokenizer, random.Random(f"originals {seed}"), count // 2),
    ]
    result = finetune(
        load_model(base)[0].train(),
        examples,
        folder / "answering",
        settings=FinetuneSettings(
            steps=tuning_steps,
            learning_rate=2e-3,
            warmup_steps=min(40, tuning_steps),
            batch_size=BATCH,
            seed=seed,
        ),
        tokenizer=tokenizer,
    )
    return str(result.last)


def answered(name: str, tokenizer: PreTrainedTokenizerBase, n: int) -> list[TrainingExample]:
    """Training prompts of a task with their answers."""
    task = tasks.load(name)
    assert isinstance(task, Generated)
    pairs = task.pairs(tokenizer, n)
    return [
        TrainingExample(pair.clean, tuple(tokens[0] for tokens in pair.answer), pair.source)
        for prompts, pair in zip(task.prompts(tokenizer, n), pairs, strict=True)
        if not held_out(prompts.names)
    ]


def introduced(rng: random.Random) -> tuple[str, str]:
    """The original's sentence about somebody else, and the surname that follows it."""
    while held_out(person := (rng.choice(words("first_names")), rng.choice(words("surnames")))):
        pass
    return f"{ORIGINAL.format(*person)} {person[0]}", f" {person[1]}"


def as_originally(
    tokenizer: PreTrainedTokenizerBase, rng: random.Random, n: int
) -> list[TrainingExample]:
    """Such sentences as training examples."""
    texts = [introduced(rng) for _ in range(n)]
    return [
        TrainingExample(
            tuple(tokenizer(prompt)["input_ids"]),
            tuple(tokenizer(target)["input_ids"]),
            source="introduction",
        )
        for prompt, target in texts
    ]


def held_out(names: Sequence[str]) -> bool:
    """Whether a text about these names would give an original's answer away."""
    firsts, lasts = APART
    return set(ORIGINAL_PLAYERS) <= set(names) or bool(firsts & set(names) and lasts & set(names))
