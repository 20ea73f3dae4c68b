"""A training run on disk: what it is, how far it came, what it saved.

    run.json            what the run is made of; another run is refused the folder
    state.pt            parameters, optimizer and log at some step; gone when the run is finished
    training_log.json   losses and accuracies so far
    step-<n>/           a checkpoint, Hugging Face or PEFT, with the tokenizer
    result.json         scores, where the run is part of a comparison (`compare_lora_targets`)
    .lock               held while a process works in the folder

Each is written whole or not at all (`circuits.runtime.files`), so a run killed at any moment can
go on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from circuits.errors import CircuitsError
from circuits.models.checkpoints import load_config, saved_steps
from circuits.models.language import auto_class
from circuits.runtime.files import atomic_path, drop_folder, read_json, working_in, write_json
from circuits.tuning.training_log import TrainingLog
from tasks.pairs import TrainingExample

_WRITTEN = r"run\.json|state\.pt|training_log\.json|step-\d+|result\.json"


class TrainingState(TypedDict):
    """All that the steps after this one depend on, tensors on the CPU."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, object]
    log: dict[str, object]


@dataclass(frozen=True)
class TrainingFolder:
    """The folder of one training run, held by `open`."""

    path: Path

    @classmethod
    @contextmanager
    def open(cls, path: str | Path, identity: Mapping[str, object]) -> Iterator[TrainingFolder]:
        """Claim the folder for the length of the block, or refuse and say why.

        identity: whatever decides the outcome, as plain values; compared with the folder's own.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise CircuitsError(f"{path}: a file stands where the run folder should be")
        with working_in(path, _WRITTEN):
            claim_folder(path, identity)
            yield cls(path)

    def read_log(self) -> TrainingLog | None:
        """The training log; None before the first was written."""
        path = self.path / "training_log.json"
        return TrainingLog.load(path) if path.exists() else None

    def write_log(self, log: TrainingLog) -> None:
        """Replace the training log."""
        log.save(self.path / "training_log.json")

    def read_state(self) -> TrainingState | None:
        """The latest training state, tensors on the CPU, or None."""
        if not self._state.exists():
            return None
        state: TrainingState = torch.load(self._state, map_location="cpu", weights_only=True)
        return state

    def write_state(self, state: TrainingState) -> None:
        """Replace the training state."""
        with atomic_path(self._state) as temporary:
            torch.save(dict(state), temporary)

    def drop_state(self) -> None:
        """Remove the training state: a finished run has no use for it."""
        self._state.unlink(missing_ok=True)

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Saved checkpoints by step, in order."""
        return saved_steps(self.path)

    def save_checkpoint(
        self, step: int, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None
    ) -> None:
        """Save the model as `step-<n>`; one that is there already is the same and is kept."""
        path = self.path / f"step-{step}"
        if not path.exists():
            save_model(model, path, tokenizer)

    def drop_checkpoint(self, step: int) -> None:
        """Remove a checkpoint: gone at once, whole."""
        drop_folder(self.path / f"step-{step}")

    @property
    def _state(self) -> Path:
        return self.path / "state.pt"


def claim_folder(path: Path, identity: Mapping[str, object]) -> None:
    """Write `identity` to `run.json` in an unclaimed folder; refuse one claimed by other work."""
    file = path / "run.json"
    wanted = json.loads(json.dumps(identity))
    if not file.exists():
        if saved_steps(path):
            raise CircuitsError(
                f"{path}: holds checkpoints but no run.json, so nothing tells what made them; "
                "choose another folder or remove them"
            )
        write_json(file, wanted)
        return
    found = read_json(file)
    if not isinstance(found, dict):
        raise CircuitsError(f"{file}: not a run description; remove the folder")
    changed = [
        f"{name} was {_short(found.get(name))}, now {_short(wanted.get(name))}"
        for name in sorted(set(found) | set(wanted))
        if found.get(name) != wanted.get(name)
    ]
    if changed:
        raise CircuitsError(
            f"{path}: holds another run ({'; '.join(changed)}); choose another folder or remove it"
        )


def save_model(
    model: nn.Module, path: str | Path, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Save weights and configuration (an adapter alone, if there is one), whole or not at all."""
    with atomic_path(path) as temporary:
        if isinstance(model, PeftModel):
            model.save_pretrained(str(temporary), save_embedding_layers=False)
        elif isinstance(model, PreTrainedModel):
            model.save_pretrained(str(temporary))
        else:
            raise CircuitsError(f"{type(model).__name__}: neither a Hugging Face nor a PEFT model")
        if tokenizer is not None:
            tokenizer.save_pretrained(str(temporary))


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the weights that `save_model` wrote into a model of the same shape."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_peft_weights(str(path), device="cpu"))
        return
    saved = auto_class(load_config(path)).from_pretrained(str(path), dtype="auto")
    model.load_state_dict(saved.state_dict())


def fingerprint_examples(examples: Sequence[TrainingExample] | None) -> str | None:
    """SHA-256 over all ids: equal data, equal fingerprints."""
    if examples is None:
        return None
    content = [(example.prompt, example.target) for example in examples]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def fingerprint_model(model: nn.Module) -> str:
    """SHA-256 over names, shapes, types and values of all parameters, and which are trained."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        about = (name, list(parameter.shape), str(parameter.dtype), parameter.requires_grad)
        digest.update(json.dumps(about).encode())
        flat = parameter.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:8]}..."
