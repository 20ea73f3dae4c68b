"""Fine-tuning a LoRA on all layers, against a plain loop of peft and transformers' Trainer.

    python scripts/benchmarks/finetune.py [--model smollm2-135m] [--data dialogues.jsonl]
        [--steps 10] [--batch-size 8] [--repeats 2] [--threads 1]

Both sides train the same examples, in equal batches, with the same adapter, and save it once; the
plain loop has Trainer's own order of data, padding, loss and optimizer. Without --data, synthetic
news is trained on. Times are processor seconds of whole calls, the sides in turn, the smallest of
the repeats. One JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from transformers import Trainer, TrainingArguments

import tasks
from circuits.models import load_model
from circuits.options.tuning import FinetuneSettings
from circuits.tuning.finetune import finetune
from circuits.tuning.targets import lora_config, wrap
from tasks.pairs import TrainingExample
from tasks.task import TrainableTask

RANK = 8


def adapted(model: str) -> PeftModel:
    """The model with a fresh adapter on all layers."""
    plain = load_model(model, device="cpu")[0]
    torch.manual_seed(0)
    layers = range(plain.config.get_text_config().num_hidden_layers)
    return wrap(plain, lora_config(list(layers), plain, RANK))


def examples_of(model: str, data: str | None, n: int) -> Sequence[TrainingExample]:
    """Training examples that fit the model."""
    network, tokenizer = load_model(model, device="cpu")
    assert tokenizer is not None
    n_ctx = network.config.get_text_config().max_position_embeddings
    options = {} if data is None else {"path": data, "skip": True, "fit": True}
    task = tasks.load("newsroom" if data is None else "summarization", **options)
    assert isinstance(task, TrainableTask)
    return task.examples(tokenizer, n, split="train", n_ctx=n_ctx)


def collated(examples: Sequence[TrainingExample]) -> dict[str, torch.Tensor]:
    """Right-padded, with labels on the targets, as a collator of the library makes it."""
    width = max(len(sample.prompt) + len(sample.target) for sample in examples)
    rows: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for example in examples:
        length = len(example.prompt) + len(example.target)
        padding = width - length
        rows["input_ids"].append([*example.prompt, *example.target, *[0] * padding])
        rows["attention_mask"].append([1] * length + [0] * padding)
        rows["labels"].append([-100] * len(example.prompt) + [*example.target] + [-100] * padding)
    return {name: torch.tensor(values) for name, values in rows.items()}


def plainly(
    model: PeftModel, examples: Sequence[TrainingExample], settings: FinetuneSettings, out: Path
) -> float:
    """Trainer as it comes; the last loss."""
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps or 0,
        lr_scheduler_type="cosine",
        logging_steps=settings.steps,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
    )
    trainer = Trainer(model, arguments, collated, list(examples))
    output = trainer.train()
    trainer.save_model()
    return float(output.training_loss)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--data", help="articles or dialogues, as the task summarization reads")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    steps, size = arguments.steps, arguments.batch_size
    examples = examples_of(arguments.model, arguments.data, steps * size)
    settings = FinetuneSettings(steps=steps, batch_size=size, learning_rate=2e-4)
    durations: dict[str, list[float]] = {"ours": [], "plain": []}
    losses: dict[str, float] = {}
    for _ in range(arguments.repeats):
        for side in durations:
            model = adapted(arguments.model)
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                if side == "ours":
                    run = finetune(model, examples, folder, settings=settings, progress=False)
                    losses[side] = sum(step.loss for step in run.log.steps) / steps
                else:
                    losses[side] = plainly(model, examples, settings, Path(folder))
                durations[side].append(round(time.process_time() - start, 2))
    seconds = {side: min(times) for side, times in durations.items()}
    ratio = round(seconds["ours"] / seconds["plain"], 3)
    print(json.dumps({"seconds": durations, "ratio": ratio, "mean loss": losses}))


if __name__ == "__main__":
    main()
