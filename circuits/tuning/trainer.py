"""transformers' Trainer, made to train on target tokens and to go on exactly where it was killed.

The loop is Trainer's: accumulation, clipping, mixed precision, several processes, FSDP, and what a
state on disk holds of optimizer, schedule and weights. Its own ways would not do in four places,
which are overridden here:

- The loss is over target tokens, each counted once, however a step's batch is cut into pieces and
  spread over processes: the sum over a piece is divided by the targets of the whole step.
- The order of the data and dropout are drawn from the seed and the number of the step, so that
  nothing depends on what ran before.
- Step 0 is validated and may be the best one; a step's own validation is known before it is saved.
- What is on disk is whole or absent: Trainer writes a checkpoint in place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from typing_extensions import override

from circuits.errors import DivergedError
from circuits.models.lean_training import last_layer_alone
from circuits.options.tuning import FinetuneSettings
from circuits.runtime.seeds import mixed_seed
from circuits.tuning.batches import Piece, Share, training_pieces, without_adapter
from circuits.tuning.loss import score_targets, summed_loss, target_logits
from circuits.tuning.training_folder import TrainingFolder, load_weights, write_model
from circuits.tuning.training_log import TrainingLog, TrainingStep, ValidationStep
from circuits.tuning.training_tables import write_tables
from circuits.tuning.tuned_model import TunedModel
from tasks.pairs import TrainingExample

READ_EVERY = 10  # steps between looks at the losses, each a wait for an asynchronous device


@dataclass(frozen=True)
class TrainingData:
    """What is trained on, what is measured on (None measures nothing), and the tokenizer that is
    saved with each checkpoint.
    """

    examples: Sequence[TrainingExample]
    validation: Sequence[TrainingExample] | None = None
    tokenizer: PreTrainedTokenizerBase | None = None


class TargetTrainer(Trainer):
    """A run in a folder: every step is logged, and what the settings ask for is saved."""

    def __init__(
        self,
        model: TunedModel,
        arguments: TrainingArguments,
        settings: FinetuneSettings,
        data: TrainingData,
        folder: TrainingFolder,
    ) -> None:
        self.settings, self.data, self.folder = settings, data, folder
        self.log_so_far = TrainingLog()
        self.unread: list[Tensor] = []  # (loss, token accuracy) of each piece of the latest steps
        self.state_goes_to = str(arguments.output_dir)
        # Now, while they have their shapes: FSDP flattens them.
        self.decayed = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
        # Run again in the backward pass, or spread, the last layer must be the same both times.
        splits_tail = arguments.world_size == 1 and not settings.gradient_checkpointing
        self.tail = last_layer_alone(without_adapter(model)) if splits_tail else ()
        self.bar: tqdm[None] = tqdm(disable=True)
        use_cache = getattr(model.config, "use_cache", None)
        super().__init__(
            model=model,
            args=arguments,
            compute_loss_func=summed_loss,
            callbacks=[_Schedule(self)],
        )
        self.remove_callback(PrinterCallback)
        if use_cache is not None:  # Trainer sets it, and checkpoints would be saved with it
            model.config.use_cache = use_cache

    def run(self, *, progress: bool) -> TrainingLog:
        """All remaining steps; returns the finished log."""
        state = self.folder.latest_state()
        if state is not None:
            self.log_so_far = TrainingLog.load(state / "training_log.json")
        n_done = len(self.log_so_far.steps)
        self.began = time.perf_counter() - self.log_so_far.seconds
        shows_progress = progress and self.is_world_process_zero()
        last = self.settings.steps
        with tqdm(
            total=last, initial=n_done, desc="fine-tuning", unit="step", disable=not shows_progress
        ) as self.bar:
            self.train(
                resume_from_checkpoint=None if state is None else f"{state}/checkpoint-{n_done}"
            )
        self.note(finished=True)
        self.write_log()
        return self.log_so_far

    @override
    def create_accelerator_and_postprocess(self) -> None:
        """Without a move to the first device, where accelerate would have it, of one process."""
        super().create_accelerator_and_postprocess()
        if self.args.world_size == 1:
            self.accelerator.device_placement = False

    # What is trained on

    @override
    def get_train_dataloader(self) -> DataLoader[dict[str, Piece]]:
        """Each process makes its own pieces; nothing is drawn, so nothing has to be skipped."""
        return DataLoader(_Steps(self), batch_size=None)

    def pieces(self) -> Iterator[dict[str, Piece]]:
        """From the step on that comes next."""
        pieces = training_pieces(
            self.data.examples,
            self.settings.batch_size,
            seed=self.settings.seed,
            start=self.state.global_step,
            share=Share(self.settings.accumulation, self.processes, self.args.process_index),
        )
        return ({"piece": piece} for piece in pieces)

    # The step

    @property
    def processes(self) -> int:
        """How many processes share a step."""
        return int(self.args.world_size)

    @property
    def tuned(self) -> TunedModel:
        """The model; of FSDP, a wrapper that passes on what is asked of it."""
        return cast(TunedModel, self.model)

    @override
    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, object],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """A piece's share of the mean over the step's targets.

        Gradients are averaged over processes, so each gives its share as many times over.
        """
        piece = cast(Piece, inputs["piece"])
        batch = piece.batch.to(self.args.device)
        logits = target_logits(self.tuned, batch, run=model, tail=self.tail)
        loss = summed_loss(logits, batch.labels, piece.step_targets)
        hits = (logits.detach().argmax(-1) == batch.labels).float().sum() / piece.step_targets
        self.unread.append(torch.stack([loss.detach(), hits]))
        return (loss * self.processes if self.processes > 1 else loss).to(self.args.device)

    @override
    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices are decayed, whatever they are called."""
        return self.decayed

    @override
    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LambdaLR:
        """The settings' rate of each step, from the first on; Trainer's own begins at 0."""
        settings, changed = self.settings, optimizer or self.optimizer
        assert changed is not None
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            changed, lambda step: settings.rate(min(step + 1, settings.steps))
        )
        return self.lr_scheduler

    @override
    def floating_point_ops(self, inputs: Mapping[str, object]) -> int:
        """Not counted: Trainer would go through all parameters at each step."""
        return 0

    # The log

    def note(self, **changes: object) -> None:
        """Change fields of the log."""
        self.log_so_far = self.log_so_far.model_copy(update=changes)

    def write_log(self) -> None:
        """Replace the log on disk, in the one process that writes."""
        if self.args.should_save:
            self.folder.write_log(self.log_so_far)
            write_tables(self.log_so_far, self.folder.path, self.settings.log_to)

    def read(self, step: int) -> None:
        """Move the figures of the latest steps, up to `step`, into the log."""
        figures: list[list[float]] = []
        if self.unread:
            pieces = torch.stack(self.unread).view(-1, self.settings.accumulation, 2)
            figures = self.accelerator.reduce(pieces.sum(1), "sum").tolist()
        self.unread.clear()
        read = []
        for number, (loss, accuracy) in enumerate(figures, start=step - len(figures) + 1):
            _require_finite(loss, f"the training loss at step {number}")
            read.append(TrainingStep(number, loss, accuracy, self.settings.rate(number)))
        self.note(steps=(*self.log_so_far.steps, *read), seconds=time.perf_counter() - self.began)
        if self.log_so_far.steps:
            self.bar.set_postfix(self.postfix())

    def postfix(self) -> dict[str, str]:
        """The latest losses, for the progress bar."""
        losses = {"loss": f"{self.log_so_far.steps[-1].loss:.3f}"}
        if self.log_so_far.validation:
            losses["validation"] = f"{self.log_so_far.validation[-1].loss:.3f}"
        return losses

    @override
    def evaluate(self, *args: object, **kwargs: object) -> dict[str, float]:
        """Log loss and accuracy on the validation examples; stop where patience has run out."""
        step, settings = self.state.global_step, self.settings
        loss, accuracy = self.validation_figures()
        _require_finite(loss, f"the validation loss after step {step}")
        entry = ValidationStep(step, loss, accuracy)
        self.note(validation=(*self.log_so_far.validation, entry))
        if 0 < step < settings.steps and self.exhausted():
            self.note(stopped_early=True)
            self.control.should_training_stop = True
        metrics = {"eval_loss": loss, "eval_token_accuracy": accuracy}
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def validation_figures(self) -> tuple[float, float]:
        """Loss and token accuracy; each process takes its share, all of equal number."""
        examples = self.data.validation or ()
        rank, processes = self.args.process_index, self.processes
        own_indices = range(rank, rank + -(-len(examples) // processes) * processes, processes)
        own_examples = [examples[i % len(examples)] for i in own_indices]
        scores = score_targets(self.tuned, own_examples, batch_size=self.settings.batch_size)
        real = sum(i < len(examples) for i in own_indices)
        sums = [sum(column[:real]) for column in (scores.loss, scores.correct, scores.tokens)]
        if processes > 1:
            shared = torch.tensor(sums, dtype=torch.float64, device=self.args.device)
            sums = self.accelerator.reduce(shared, "sum").tolist()
        loss, correct, tokens = sums
        return loss / tokens, correct / tokens

    def exhausted(self) -> bool:
        """Whether the validation loss has gone without a new low for `patience` times."""
        patience = self.settings.patience
        losses = [entry.loss for entry in self.log_so_far.validation]
        return patience is not None and losses.index(min(losses)) < len(losses) - patience

    # What is kept

    @property
    def best_step(self) -> int | None:
        """The step of the lowest validation loss so far."""
        best = self.log_so_far.best
        return None if best is None else best.step

    @override
    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        """After a step at which something may be due: its checkpoint, the state, the log."""
        step, settings = self.state.global_step, self.settings
        is_last = step == settings.steps or self.log_so_far.stopped_early
        best = settings.patience is not None and self.best_step == step
        self.read(step)
        if is_last or best or step in settings.kept_steps:
            with ExitStack() as stack:
                checkpoint = self.folder.checkpoint(step)
                folder = stack.enter_context(checkpoint) if self.args.should_save else None
                if (path := self.everywhere(folder)) is not None:
                    self.save_model(str(path), _internal_call=True)
        saves = not is_last and step % settings.save_state_every == 0
        if saves:
            self.save_state()
        if (saves or is_last) and settings.patience is not None and self.args.should_save:
            self.drop_surpassed(step, is_last=is_last)

    def save_state(self) -> None:
        """Write all that the steps after this one depend on, then let go of what was before."""
        step, writes = self.state.global_step, self.args.should_save
        with ExitStack() as stack:
            state_folder = stack.enter_context(self.folder.state(step)) if writes else None
            self.state_goes_to = str(self.everywhere(state_folder))
            super()._save_checkpoint(self.tuned, None)
            if state_folder is not None:
                self.log_so_far.save(state_folder / "training_log.json")
            self.accelerator.wait_for_everyone()
        self.write_log()
        if writes:
            self.folder.drop_states(before=step)

    def everywhere(self, path: Path | None) -> Path | None:
        """What the first process gives, in all of them."""
        shared = [path]
        broadcast_object_list(shared)
        return shared[0]

    @override
    def _get_output_dir(self, trial: object) -> str:
        return self.state_goes_to

    @override
    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        if self.args.should_save and output_dir is not None:
            plain = self.accelerator.unwrap_model(self.model)
            write_model(plain, Path(output_dir), self.data.tokenizer, state_dict)

    @override
    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        """By the names of the model on disk: Trainer's own passes over what it does not find."""
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_weights(self.tuned, resume_from_checkpoint)

    def drop_surpassed(self, step: int, *, is_last: bool) -> None:
        """Remove checkpoints that were best once: only when what comes after needs none of them."""
        kept_steps = {*self.settings.kept_steps, self.best_step}
        for saved_step in self.folder.checkpoints:
            if saved_step < step + (not is_last) and saved_step not in kept_steps:
                self.folder.drop_checkpoint(saved_step)


class _Steps(IterableDataset[dict[str, Piece]]):
    """Pieces of steps without end."""

    def __init__(self, trainer: TargetTrainer) -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[dict[str, Piece]]:
        return self.trainer.pieces()


class _Schedule(TrainerCallback):
    """Says after each step what is due."""

    def __init__(self, trainer: TargetTrainer) -> None:
        self.trainer = trainer

    @override
    def on_train_begin(
        self, args: object, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.global_step == 0 and self.trainer.data.validation is not None:
            self.trainer.evaluate()

    @override
    def on_step_begin(
        self, args: object, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        seed = mixed_seed(self.trainer.settings.seed, state.global_step)  # of dropout
        if self.trainer.args.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # others are put off with a whole traceback
        else:
            torch.manual_seed(seed)

    @override
    def on_step_end(
        self, args: object, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        trainer, settings, step = self.trainer, self.trainer.settings, state.global_step
        is_last = step == settings.steps
        validates = is_last or step % settings.validate_every == 0
        control.should_evaluate = validates and trainer.data.validation is not None
        saves = is_last or step in settings.kept_steps or step % settings.save_state_every == 0
        control.should_save = control.should_evaluate or saves
        if step % READ_EVERY == 0:
            trainer.read(step)
        trainer.bar.update()


def _require_finite(loss: float, what: str) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"{what} is {loss}; lower the learning rate, lengthen the warm-up or clip gradients"
        )
