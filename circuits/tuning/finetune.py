"""Fine-tuning on target tokens: checkpoints at chosen steps, early stopping, exact resumption.

Whatever parameters require gradients are trained: all of a model, or the adapter of a PEFT model.
Step n depends on the settings, the data and the parameters after step n - 1, and on nothing else
(data order and dropout are drawn from the seed and n), so a run that is killed and started again
ends with the bytes of one that was not, on the same machine and number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from circuits.errors import CircuitsError
from circuits.options.tuning import FinetuneSettings
from circuits.tuning.batches import TargetBatch, TunedModel, require_examples, training_batches
from circuits.tuning.loss import score_targets, target_loss
from circuits.tuning.training_folder import (
    TrainingFolder,
    fingerprint_examples,
    fingerprint_model,
    load_weights,
)
from circuits.tuning.training_log import TrainingLog, TrainingStep, ValidationStep
from tasks.pairs import TrainingExample

READ_EVERY = 10  # steps between looks at the losses, each a wait for an asynchronous device


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left behind.

    checkpoints: folder by step, in order, the last step included.
    log: loss and accuracy of every training step and validation.
    """

    out: Path
    checkpoints: dict[int, Path]
    log: TrainingLog

    @property
    def last(self) -> Path:
        """The checkpoint after the last step."""
        return self.checkpoints[len(self.log.steps)]

    @property
    def best(self) -> Path | None:
        """The checkpoint of the lowest validation loss, where it was kept, as it is with
        `patience`. None where the base model itself is best (step 0).
        """
        return None if self.log.best is None else self.checkpoints.get(self.log.best.step)


def finetune(
    model: TunedModel,
    examples: Sequence[TrainingExample],
    out: str | Path,
    *,
    settings: FinetuneSettings,
    validation: Sequence[TrainingExample] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    progress: bool = True,
) -> FinetuneResult:
    """Train `model` in place on the target tokens of `examples`.

    A run that was killed continues from its last saved state; a finished one is only loaded.

    Args:
        model: a causal Hugging Face model, or a PEFT model on one; cast to float32 if what is to be
            trained is not. After the call it holds the weights of the last step.
        examples: what is trained on.
        out: folder for `training_log.json` and the checkpoints `step-<n>/`: after each of
            `settings.checkpoint_steps`, after the last step, and with `patience` after the step of
            the lowest validation loss.
        settings: every number that the run depends on.
        validation: examples whose loss is measured every `settings.validate_every` steps.
        tokenizer: saved with each checkpoint.
        progress: show a progress bar on stderr.

    Returns:
        The checkpoints and the log.

    Raises:
        CircuitsError: if the folder holds a run on other settings, data or weights, if another
            process works in it, if no parameter requires gradients, or if a loss is not finite.
    """
    require_examples(examples, model)
    if validation is not None:
        require_examples(validation, model, what="validation")
    elif settings.patience is not None:
        raise CircuitsError("patience needs validation examples; give some, or set it to None")
    parameters: Iterable[tuple[str, Tensor]] = model.named_parameters()
    trained = {name: p for name, p in parameters if p.requires_grad}
    if not trained:
        raise CircuitsError("no parameter of the model requires gradients; nothing to train")
    if any(parameter.dtype != torch.float32 for parameter in trained.values()):
        model.float()

    outcome = {k: v for k, v in asdict(settings).items() if k != "save_state_every"}
    identity = {
        **outcome,
        "examples": fingerprint_examples(examples),
        "validation": fingerprint_examples(validation),
        "model": fingerprint_model(model),
    }
    with TrainingFolder.open(out, identity) as folder:
        log = folder.read_log()
        if log is not None and log.finished:
            load_weights(model, folder.checkpoints[len(log.steps)])
        else:
            run = _Run(model, trained, folder, settings, tokenizer)
            log = run.train(examples, validation, progress=progress)
        folder.drop_state()
        return FinetuneResult(folder.path, folder.checkpoints, log)


@dataclass
class _Run:
    """The moving parts of a run."""

    model: TunedModel
    trained: dict[str, Tensor]
    folder: TrainingFolder
    settings: FinetuneSettings
    tokenizer: PreTrainedTokenizerBase | None
    log: TrainingLog = field(default_factory=TrainingLog)

    def __post_init__(self) -> None:
        matrices = [p for p in self.trained.values() if p.ndim > 1]
        others = [p for p in self.trained.values() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            betas=self.settings.betas,
        )
        self.unread: list[Tensor] = []  # (loss, token accuracy) of the latest steps

    def train(
        self,
        examples: Sequence[TrainingExample],
        validation: Sequence[TrainingExample] | None,
        *,
        progress: bool,
    ) -> TrainingLog:
        """All remaining steps; returns the finished log."""
        settings, last = self.settings, self.settings.steps
        done = self.restore()
        began = time.perf_counter() - self.log.seconds
        if done == 0 and validation is not None:
            self.validate(0, validation)
        batches = training_batches(examples, settings.batch_size, seed=settings.seed, start=done)
        training, device = self.model.training, self.model.device
        bar = tqdm(total=last, initial=done, desc="fine-tuning", unit="step", disable=not progress)
        with bar, torch.random.fork_rng([device] if device.type == "cuda" else []):
            self.model.train()
            for step, batch in enumerate(islice(batches, last - done), start=done + 1):
                self.step(step, batch.to(device))
                validates = validation is not None and (
                    step % settings.validate_every == 0 or step == last
                )
                if validates and validation is not None:
                    self.validate(step, validation)
                    self.note(stopped_early=step < last and self.exhausted())
                ends = step == last or self.log.stopped_early
                checkpoints = ends or step in settings.checkpoint_steps or self.is_best(step)
                saves = not ends and step % settings.save_state_every == 0
                if checkpoints or saves or step % READ_EVERY == 0:
                    self.read(step)
                    bar.set_postfix(self.postfix())
                self.note(seconds=time.perf_counter() - began)
                if checkpoints:
                    self.folder.save_checkpoint(step, self.model, self.tokenizer)
                if saves:
                    self.save(step)
                if saves or ends:
                    self.drop_surpassed(step, ends=ends)
                bar.update()
                if ends:
                    break
        self.model.train(training)
        self.note(finished=True)
        self.folder.write_log(self.log)
        return self.log

    def step(self, step: int, batch: TargetBatch) -> None:
        """One optimizer step, the `step`-th of the run."""
        torch.manual_seed(self.settings.seed * 2**32 + step)  # dropout
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(step)
        loss, accuracy = target_loss(self.model, batch)
        torch.autograd.backward(loss)
        if self.settings.clip is not None:
            clip_grad_norm_(self.trained.values(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.unread.append(torch.stack([loss.detach(), accuracy]))

    def note(self, **changes: object) -> None:
        """Change fields of the log."""
        self.log = self.log.model_copy(update=changes)

    def read(self, step: int) -> None:
        """Move the figures of the latest steps, up to `step`, into the log."""
        figures = torch.stack(self.unread).tolist() if self.unread else []
        self.unread.clear()
        read = []
        for number, (loss, accuracy) in enumerate(figures, start=step - len(figures) + 1):
            _require_finite(loss, f"the training loss at step {number}")
            read.append(TrainingStep(number, loss, accuracy, self.settings.rate(number)))
        self.note(steps=(*self.log.steps, *read))

    def validate(self, step: int, validation: Sequence[TrainingExample]) -> None:
        """Log loss and accuracy on the validation examples."""
        scores = score_targets(self.model, validation, batch_size=self.settings.batch_size)
        _require_finite(scores.mean_loss, f"the validation loss after step {step}")
        entry = ValidationStep(step, scores.mean_loss, scores.token_accuracy)
        self.note(validation=(*self.log.validation, entry))

    def exhausted(self) -> bool:
        """Whether the validation loss has gone without a new low for `patience` times."""
        patience, losses = self.settings.patience, [entry.loss for entry in self.log.validation]
        return patience is not None and losses.index(min(losses)) < len(losses) - patience

    def is_best(self, step: int) -> bool:
        """Whether early stopping watches, and has just seen its lowest loss."""
        return self.settings.patience is not None and self.best_step == step

    @property
    def best_step(self) -> int | None:
        """The step of the lowest validation loss so far."""
        return None if self.log.best is None else self.log.best.step

    def drop_surpassed(self, step: int, *, ends: bool) -> None:
        """Remove checkpoints that were best once: only when what comes after needs none of them."""
        if self.settings.patience is None:
            return
        kept = {*self.settings.checkpoint_steps, self.best_step}
        for saved in self.folder.checkpoints:
            if saved < step + (not ends) and saved not in kept:
                self.folder.drop_checkpoint(saved)

    def save(self, step: int) -> None:
        """Write all that the steps after this one depend on."""
        self.folder.write_state(
            {
                "step": step,
                "parameters": {name: p.detach() for name, p in self.trained.items()},
                "optimizer": self.optimizer.state_dict(),
                "log": self.log.to_json(),
            }
        )
        self.folder.write_log(self.log)

    def restore(self) -> int:
        """Go back to the latest saved state, if any; the number of steps done."""
        state = self.folder.read_state()
        if state is None:
            return 0
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.log = TrainingLog.from_json(state["log"], str(self.folder.path / "state.pt"))
        return int(state["step"])

    def postfix(self) -> dict[str, str]:
        """The latest losses, for the progress bar."""
        shown = {"loss": f"{self.log.steps[-1].loss:.3f}"}
        if self.log.validation:
            shown["validation"] = f"{self.log.validation[-1].loss:.3f}"
        return shown


def _require_finite(loss: float, what: str) -> None:
    if not math.isfinite(loss):
        raise CircuitsError(
            f"{what} is {loss}; lower the learning rate, lengthen the warm-up or clip gradients"
        )
