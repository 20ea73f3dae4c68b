"""A fine-tuning's settings as transformers' TrainingArguments, and where this process computes."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from peft import PeftModel
from transformers import TrainingArguments

from circuits.options.tuning import FinetuneSettings
from circuits.tuning.tuned_model import TunedModel


class PlacedArguments(TrainingArguments):
    """Arguments of a process that computes where its model stands.

    Trainer takes the first GPU, or all of them as one, whatever device a model is on. What
    `accelerate launch` starts several of computes where accelerate put it.
    """

    place: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """Where batches go."""
        default_device: torch.device = super().device
        return default_device if self.place is None else self.place

    @property
    def n_gpu(self) -> int:
        """One at most: several are several processes."""
        return 0 if self.device.type == "cpu" else 1


def arguments_of(settings: FinetuneSettings, model: TunedModel, out: Path) -> PlacedArguments:
    """Trainer's arguments; what it would decide by itself on logs and checkpoints is left to us.

    The schedule multiplies a learning rate of 1, so that a step's rate is the settings' own.
    """
    arguments = PlacedArguments(
        output_dir=str(out),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=1.0,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        max_grad_norm=settings.clip or 0.0,
        optim="adamw_torch",
        seed=settings.seed,
        bf16=settings.bf16,
        use_cpu=model.device.type == "cpu" and (launched() == 1 or not torch.cuda.is_available()),
        logging_strategy="no",
        logging_nan_inf_filter=False,  # a loss that is no number is an error here
        eval_strategy="no",
        save_strategy="no",
        ddp_find_unused_parameters=False if isinstance(model, PeftModel) else None,
        ignore_data_skip=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
    )
    if arguments.world_size == 1:
        arguments.place = model.device
    return arguments


def launched() -> int:
    """How many processes `accelerate launch` or `torchrun` started this one among."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process is the first of them, which alone writes and speaks."""
    return os.environ.get("RANK", "0") == "0"
