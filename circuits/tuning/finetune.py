"""Fine-tuning on target tokens: checkpoints at chosen steps, early stopping, exact resumption.

Whatever parameters require gradients are trained: all of a model, or the adapter of a PEFT model.
Step n depends on the settings, the data and the state after step n - 1, and on nothing else
(data order and dropout are drawn from the seed and n), so a run that is killed and started again
ends with the bytes of one that was not, on the same machine and number of threads and processes.
The loop is transformers' Trainer (`circuits.tuning.trainer`), so that `accelerate launch` spreads
it over processes as its configuration says.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from circuits.errors import CircuitsError
from circuits.models.lean_training import fused_activations, layers_run_again
from circuits.options.tuning import FinetuneSettings
from circuits.tuning.batches import require_examples, without_adapter
from circuits.tuning.identity import (
    data_identity,
    fingerprint_tokenizer,
    model_identity,
    settings_identity,
)
from circuits.tuning.trainer import TargetTrainer, TrainingData
from circuits.tuning.training_arguments import arguments_of
from circuits.tuning.training_folder import TrainingFolder, load_weights
from circuits.tuning.training_log import TrainingLog
from circuits.tuning.training_tables import require_writers, write_tables
from circuits.tuning.tuned_model import TunedModel
from circuits.tuning.undisturbed import (
    model_as_found,
    only_new_garbage,
    own_random_numbers,
)
from tasks.pairs import TrainingExample


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
        CircuitsError: if the folder holds a run on other settings, data, weights or heads, or of
            another adapter, if another process works in it, if no parameter requires gradients, or
            if a loss is not finite.
    """
    require_examples(examples, model)
    if validation is not None:
        require_examples(validation, model, what="validation")
    elif settings.patience is not None:
        raise CircuitsError("patience needs validation examples; give some, or set it to None")
    require_writers(settings.log_to)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise CircuitsError("no parameter of the model requires gradients; nothing to train")
    if any(parameter.dtype != torch.float32 for parameter in trained):
        model.float()

    identity = {
        **settings_identity(settings),
        **data_identity(examples, validation),
        **model_identity(model),
        "tokenizer": fingerprint_tokenizer(tokenizer),
    }
    with ExitStack() as stack:
        stack.enter_context(own_random_numbers())
        stack.enter_context(model_as_found(model))
        arguments = arguments_of(settings, model, Path(out))
        if arguments.should_save:
            stack.enter_context(TrainingFolder.claim(out, identity))
        PartialState().wait_for_everyone()  # then the folder is claimed
        folder = TrainingFolder(Path(out))
        log = folder.read_log()
        if log is not None and log.finished:
            load_weights(model, folder.checkpoints[len(log.steps)])
            if arguments.should_save:
                write_tables(log, folder.path, settings.log_to)
        else:
            data = TrainingData(examples, validation, tokenizer)
            with (
                only_new_garbage(),
                fused_activations(model),
                layers_run_again(without_adapter(model))
                if settings.gradient_checkpointing
                else nullcontext(),
            ):
                trainer = TargetTrainer(model, arguments, settings, data, folder)
                log = trainer.run(progress=progress)
                del trainer  # with the state of its optimizer
        PartialState().wait_for_everyone()
        if arguments.should_save:
            folder.drop_states()
        return FinetuneResult(folder.path, folder.checkpoints, log)
