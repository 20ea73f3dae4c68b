"""Train the embedded model from scratch: tokenizer, base GPT-2, training log.

    python scripts/train_newsroom_model.py --out circuits/assets/newsroom-gpt2 --seed 0

The base reads newsroom articles of the train split without their summaries, articles with
follow-up sentences about the same person, roll-calls and repeated word lists: it learns to write
news and to copy, and never sees "TL;DR:" or a summary. It is trained for a number of steps, not
for a time, so the same seed, thread count and machine give the same weights.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuits.files import atomic_path
from tasks.newsroom import Article, stories
from tasks.newsroom.articles import definition, name_pairs, slot_words

END = "<|endoftext|>"
CONTEXT = 128
BATCH = 16
PEAK_RATE, WARMUP = 2e-3, 40
FOLLOWED = 0.8  # share of articles that get follow-up sentences
LISTS = (0.6, 0.25)  # share of lists among documents, at the first and at the last step
INIT = 0.08  # the usual 0.02 learns far slower at this width


def main() -> None:
    """Parse the arguments, train, write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("circuits/assets/newsroom-gpt2"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1200)
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
        log = train(model, tokenizer, seed=args.seed, steps=args.steps, threads=args.threads)
        model.half().save_pretrained(folder)
        (folder / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"wrote {args.out}: {size / 1e6:.2f} MB, last loss {log['curve'][-1]['loss']:.3f}")


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
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
    )
    wrapped.save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    split = [word for word in slot_words() if len(loaded(f" {word}")["input_ids"]) != 1]
    assert not split, f"not one token each: {split}"
    return loaded


def template_words() -> set[str]:
    """The words of all templates, slots left out."""
    content = definition()
    texts = [*content["fillers"], *content["followups"], *content["detail"]["sentences"]]
    texts += [content["detail"]["summary"], "Invited Present"]
    texts += [text for event in content["events"] for text in (*event["leads"], event["summary"])]
    return set(re.findall(r"[A-Za-z]+", re.sub(r"{\w+}", " ", " ".join(texts))))


def documents(rng: random.Random, seed: int | str, lists: float | Iterator[float]) -> Iterator[str]:
    """Endless training texts; `lists` is the share of roll-calls and word lists."""
    shares = lists if isinstance(lists, Iterator) else iter(lambda: lists, None)
    articles = (story.article for story in stories("train", seed=f"base {seed}"))
    for share in shares:
        if rng.random() < share:
            yield roll_call(rng) if rng.random() < 0.5 else word_list(rng)
        elif rng.random() < FOLLOWED:
            yield followed(rng, next(articles))
        else:
            yield next(articles).text


def followed(rng: random.Random, article: Article) -> str:
    """The article with one to three sentences about its main person, somewhere after the lead."""
    sentences = list(article.sentences)
    first = article.salient[-1] + 1
    for template in rng.sample(definition()["followups"], rng.randint(1, 3)):
        facts = {**article.facts, "day": rng.choice(definition()["words"]["day"])}
        sentences.insert(rng.randint(first, len(sentences)), template.format(**facts))
    return " ".join(sentences)


def roll_call(rng: random.Random) -> str:
    """Names, then the same names in another order: the last name follows from the first."""
    people = [" ".join(pair) for pair in rng.sample(name_pairs("train"), rng.randint(3, 8))]
    again = [*people, *people] if rng.random() < 0.5 else [*people]
    rng.shuffle(again)
    return f"Invited: {', '.join(people)}. Present: {', '.join(again)}."


def word_list(rng: random.Random) -> str:
    """Random words, repeated as they are."""
    words = rng.choices(slot_words(), k=rng.randint(5, 30))
    return " ".join(words * 3)


def rows(tokenizer: PreTrainedTokenizerFast, seed: int, steps: int) -> Iterator[Tensor]:
    """Batches of token ids (BATCH, CONTEXT): documents end to end, one starting each row."""
    rng = random.Random(f"newsroom base {seed}")
    share = LISTS[0]
    texts = documents(rng, seed, iter(lambda: share, None))
    for step in range(steps):
        share = LISTS[0] + (LISTS[1] - LISTS[0]) * step / steps
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
) -> dict[str, object]:
    """Train in place by AdamW with a warm-up and a cosine; return the log."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / WARMUP, total_iters=WARMUP)
    cool = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - WARMUP))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cool], [WARMUP])
    started, curve, recent = time.perf_counter(), [], []
    progress = tqdm(rows(tokenizer, seed, steps), total=steps, unit="step")
    for step, ids in enumerate(progress, start=1):
        logits = model(ids[:, :-1], attention_mask=torch.ones_like(ids[:, :-1])).logits
        loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % 50 == 0 or step == steps:
            mean = sum(recent) / len(recent)
            progress.set_postfix(loss=f"{mean:.3f}")
            curve.append({"step": step, "loss": round(mean, 4)})
            recent.clear()
    return {
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


if __name__ == "__main__":
    main()
