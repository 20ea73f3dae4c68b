"""Train the embedded model from scratch: tokenizer, base GPT-2, training log.

    python scripts/train_newsroom_model.py --out circuits/assets/newsroom-gpt2 --seed 0

The base reads newsroom articles of the train split without their summaries. Most go on about the
same person, half end with the section they stand in, and some texts are roll-calls or repeated
word lists: it learns to write news and to copy, and never sees "TL;DR:" or a summary. It is trained
for a number of steps, not for a time: seed, thread count and versions fix the weights.

Cost: 2,000 steps of 2,048 tokens; 14 minutes on one thread of a busy machine. Muon needs torch 2.9.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuits.runtime.files import atomic_path
from tasks.builtin.newsroom import Article, stories
from tasks.builtin.newsroom.articles import EventWords, definition, name_pairs, slot_words

END = "<|endoftext|>"
CONTEXT = 128
BATCH = 16
RATE, MATRIX_RATE, WARMUP = 2e-3, 2e-2, 40
FOLLOWED = 0.8  # share of articles that get follow-up sentences
TAGGED = 0.5  # share of articles that end with their section
LISTS = 0.3  # share of roll-calls and word lists among the documents
INIT = 0.08  # the usual 0.02 learns far slower at this width


def main() -> None:
    """Parse the arguments, train, write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("circuits/assets/newsroom-gpt2"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    with atomic_path(args.out) as folder:
        card = args.out / "README.md"
        tokenizer = train_tokenizer(folder)
        if card.exists():
            (folder / "README.md").write_bytes(card.read_bytes())
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer),
                n_positions=CONTEXT,
                n_embd=args.width,
                n_layer=args.layers,
                n_head=args.heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                initializer_range=INIT,
                bos_token_id=tokenizer.eos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.eos_token_id,
            )
        )
        log, loss = train(model, tokenizer, seed=args.seed, steps=args.steps, threads=args.threads)
        model.half().save_pretrained(folder)
        (folder / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"wrote {args.out}: {size / 1e6:.2f} MB, last loss {loss:.3f}")


def train_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The smallest byte-level BPE (in steps of 64) that keeps every word one token.

    Every slot word has to be one (asserted); the words of the templates are, so that articles are
    short.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = sorted({*slot_words(), *template_words()})
    text = [f" {' '.join(words)} TL;DR:"] * 100
    for size in range(512, 4096, 64):
        bpe = ByteLevelBPETokenizer(add_prefix_space=True)
        bpe.train_from_iterator(
            text, size, min_frequency=1, special_tokens=[END], show_progress=False
        )
        if all(len(bpe.encode(f" {word}").ids) == 1 for word in words):
            break
    fast_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
    )
    fast_tokenizer.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    split = [word for word in slot_words() if len(tokenizer(f" {word}")["input_ids"]) != 1]
    assert not split, f"not one token each: {split}"
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


def template_words() -> set[str]:
    """The words of all templates, slots left out."""
    content = definition()
    texts = [*content["fillers"], *content["followups"], *content["detail"]["sentences"]]
    texts += [content["detail"]["summary"], content["tag"], "Invited Present"]
    for event_words in content["events"]:
        texts += [
            *event_words["leads"],
            event_words["summary"],
            event_words["followup"],
            event_words["section"],
        ]
    return set(re.findall(r"[A-Za-z]+", re.sub(r"{\w+}", " ", " ".join(texts))))


def documents(rng: random.Random, seed: int) -> Iterator[str]:
    """Endless training texts: lists, articles with follow-ups, plain articles."""
    articles = (story.article for story in stories("train", seed=f"base {seed}"))
    while True:
        if rng.random() < LISTS:
            yield roll_call(rng) if rng.random() < 0.5 else word_list(rng)
            continue
        article = next(articles)
        text = followed(rng, article) if rng.random() < FOLLOWED else article.text
        yield f"{text} {tag(article)}" if rng.random() < TAGGED else text


def followed(rng: random.Random, article: Article) -> str:
    """The article with two or three sentences about its main person, somewhere after the lead."""
    content = definition()
    templates = [event(article)["followup"], *rng.sample(content["followups"], rng.randint(1, 2))]
    sentences = list(article.sentences)
    for template in templates:
        index = rng.randint(article.salient[-1] + 1, len(sentences))
        sentences.insert(index, template.format(**article.facts))
    return " ".join(sentences)


def tag(article: Article) -> str:
    """The section of the paper that the article stands in."""
    return definition()["tag"].format(section=event(article)["section"])


def event(article: Article) -> EventWords:
    """The definition of the event that the article reports."""
    return next(
        event_words for event_words in definition()["events"] if event_words["kind"] == article.kind
    )


def roll_call(rng: random.Random) -> str:
    """Names, then the same names in another order: the last name follows from the first."""
    people = [" ".join(pair) for pair in rng.sample(name_pairs("train"), rng.randint(3, 8))]
    present = [*people, *people] if rng.random() < 0.5 else [*people]
    rng.shuffle(present)
    return f"Invited: {', '.join(people)}. Present: {', '.join(present)}."


def word_list(rng: random.Random) -> str:
    """Random words, repeated as they are."""
    words = rng.choices(slot_words(), k=rng.randint(5, 30))
    return " ".join(words * 3)


def rows(tokenizer: PreTrainedTokenizerFast, seed: int, steps: int) -> Iterator[Tensor]:
    """Batches of token ids (BATCH, CONTEXT): documents end to end, one starting each row."""
    rng = random.Random(f"newsroom base {seed}")
    texts = documents(rng, seed)
    for _ in range(steps):
        batch = []
        for _ in range(BATCH):
            row: list[int] = []
            while len(row) < CONTEXT:
                row += [*tokenizer(next(texts))["input_ids"], tokenizer.eos_token_id]
            batch.append(row[:CONTEXT])
        yield torch.tensor(batch)


def train(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    steps: int,
    threads: int,
) -> tuple[dict[str, object], float]:
    """Train in place; return the log, and the last loss."""
    started = time.perf_counter()
    curve = fit(model, rows(tokenizer, seed, steps), steps)
    log = {
        "seed": seed,
        "steps": steps,
        "tokens": steps * BATCH * (CONTEXT - 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "seconds": round(time.perf_counter() - started, 1),
        "threads": threads,
        "newsroom_version": definition()["version"],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "curve": curve,
    }
    return log, curve[-1]["loss"]


def fit(
    model: GPT2LMHeadModel, batches: Iterable[Tensor], steps: int
) -> list[dict[str, int | float]]:
    """Train in place, by Muon where it applies and AdamW elsewhere; return the loss curve.

    Muon is for the matrices between residual stream and heads or MLPs. With it the newsroom's base
    begins to copy names from a roll-call after 600 steps; with AdamW alone it has not by then.
    """
    inner = [p for name, p in model.named_parameters() if ".h." in name and p.ndim == 2]
    outer = [p for name, p in model.named_parameters() if not (".h." in name and p.ndim == 2)]
    optimizers = [
        torch.optim.Muon(inner, lr=MATRIX_RATE, weight_decay=0.01),
        torch.optim.AdamW(outer, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01),
    ]

    def share(step: int) -> float:
        """Warm-up, then a cosine to zero."""
        return min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))

    schedules = [torch.optim.lr_scheduler.LambdaLR(opt, share) for opt in optimizers]
    curve: list[dict[str, int | float]] = []
    recent: list[float] = []
    progress = tqdm(batches, total=steps, desc="training", unit="step")
    for step, ids in enumerate(progress, start=1):
        logits = model(ids[:, :-1], attention_mask=torch.ones_like(ids[:, :-1])).logits
        loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
        recent.append(loss.item())
        if step % 50 == 0 or step == steps:
            mean = sum(recent) / len(recent)
            progress.set_postfix(loss=f"{mean:.3f}")
            curve.append({"step": step, "loss": round(mean, 4)})
            recent.clear()
    return curve


if __name__ == "__main__":
    main()
