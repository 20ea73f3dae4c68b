"""A training run on disk: what it is, how far it came, what it saved.

    run.json            what the run is made of; another run is refused the folder
    state-<n>/          weights, optimizer, schedule and log after step n, to go on from; gone when
                        the run is finished
    training_log.json   losses and accuracies so far; where asked for, training_log.csv and
                        tensorboard/ say the same
    step-<n>/           a checkpoint, Hugging Face or PEFT, with the tokenizer
    result.json         scores, where the run is part of a comparison (`compare_lora_targets`)
    .lock               held while a process works in the folder

Each is written whole or not at all (`circuits.runtime.files`), so a run killed at any moment can
go on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from circuits.errors import CircuitsError
from circuits.models.checkpoints import load_config, saved_steps
from circuits.models.language import auto_class
from circuits.models.load_errors import abbreviated
from circuits.runtime.files import atomic_path, drop_folder, read_json, working_in, write_json
from circuits.tuning.training_log import TrainingLog

_WRITTEN = (
    r"run\.json|state-\d+|training_log\.json|training_log\.csv|tensorboard|step-\d+|result\.json"
)
_STATE = re.compile(r"state-(\d+)")
_OF_LIBRARIES = ("config", "adapter")  # another version of a library may know one value more


@dataclass(frozen=True)
class TrainingFolder:
    """The folder of one training run, held by `open`."""

    path: Path

    @classmethod
    @contextmanager
    def claim(cls, path: str | Path, identity: Mapping[str, object]) -> Iterator[TrainingFolder]:
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

    @contextmanager
    def state(self, step: int) -> Iterator[Path]:
        """A folder for the state after a step, which is there when the block has ended."""
        with atomic_path(self.path / f"state-{step}") as temporary:
            temporary.mkdir()
            yield temporary

    def latest_state(self) -> Path | None:
        """The folder of the latest state, or None."""
        states = self._states()
        return states[max(states)] if states else None

    def drop_states(self, *, before: int | None = None) -> None:
        """Remove the states of steps before that one; all of them, as a finished run has no use
        for any.
        """
        for step, path in self._states().items():
            if before is None or step < before:
                drop_folder(path)

    def _states(self) -> dict[int, Path]:
        matches = ((_STATE.fullmatch(path.name), path) for path in self.path.iterdir())
        return {int(match[1]): path for match, path in matches if match}

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Saved checkpoints by step, in order."""
        return saved_steps(self.path)

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path | None]:
        """A folder for `step-<n>`, which is there when the block has ended; None where one is
        there already: it is the same.
        """
        path = self.path / f"step-{step}"
        if path.exists():
            yield None
            return
        with atomic_path(path) as temporary:
            yield temporary

    def drop_checkpoint(self, step: int) -> None:
        """Remove a checkpoint: gone at once, whole."""
        drop_folder(self.path / f"step-{step}")


def claim_folder(path: Path, identity: Mapping[str, object]) -> None:
    """Write `identity` to `run.json` in an unclaimed folder; refuse one claimed by other work."""
    file = path / "run.json"
    expected = json.loads(json.dumps(identity))
    if not file.exists():
        if saved_steps(path):
            raise CircuitsError(
                f"{path}: holds checkpoints but no run.json, so nothing tells what made them; "
                "choose another folder or remove them"
            )
        write_json(file, expected)
        return
    _require_same(path, _recorded(file), expected)


def require_same_run(path: Path, about: Mapping[str, object]) -> None:
    """Refuse a folder whose run is another by what is given here, without a claim to it.

    about: some of what decides the outcome; what the folder says beyond that is not looked at.
    """
    file = path / "run.json"
    if file.exists():
        recorded = _recorded(file)
        expected = json.loads(json.dumps(about))
        of_these = {name: value for name, value in recorded.items() if name in expected}
        _require_same(path, of_these, expected)
    elif (path / "result.json").exists():
        raise CircuitsError(
            f"{path}: holds a result but no run.json, so nothing tells what made it; choose "
            "another folder or remove it"
        )


def _recorded(file: Path) -> dict[str, object]:
    recorded = read_json(file)
    if not isinstance(recorded, dict):
        raise CircuitsError(f"{file}: not a run description; remove the folder")
    return recorded


def _require_same(
    path: Path, recorded: Mapping[str, object], expected: Mapping[str, object]
) -> None:
    if unsaid := sorted(set(expected) - set(recorded)):
        raise CircuitsError(
            f"{path}: an earlier version of this package began this run, and its run.json does "
            f"not say with which {abbreviated(unsaid)}; choose another folder or remove it"
        )
    recorded, expected = _said_by_both(recorded, expected), _said_by_both(expected, recorded)
    names = sorted(set(recorded) | set(expected))
    changes = [_change(name, recorded.get(name), expected.get(name)) for name in names]
    if said := "; ".join(filter(None, changes)):
        raise CircuitsError(
            f"{path}: holds another run ({said}); choose another folder or remove it"
        )


def _said_by_both(identity: Mapping[str, object], other: Mapping[str, object]) -> dict[str, object]:
    """An identity without the values of libraries that the other one does not know."""
    said = dict(identity)
    for name in _OF_LIBRARIES:
        here, there = identity.get(name), other.get(name)
        if isinstance(here, dict) and isinstance(there, dict):
            said[name] = {key: value for key, value in here.items() if key in there}
    return said


def _change(name: str, was: object, now: object) -> str:
    """What became of a value, of each part of it where it has some; nothing where it is equal."""
    if was == now:
        return ""
    if not isinstance(was, dict | None) or not isinstance(now, dict | None):
        return f"{name} was {_short(was)}, now {_short(now)}"
    before, after = was or {}, now or {}
    changed = [part for part in sorted(before | after) if before.get(part) != after.get(part)]
    return f"{name}: " + abbreviated(
        [
            f"{part} was {_short(before.get(part))}, now {_short(after.get(part))}"
            for part in changed
        ]
    )


def write_model(
    model: nn.Module,
    path: Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Write weights and configuration to a folder (an adapter alone, if there is one), and the
    tokenizer. weights: in place of the model's own, where those are spread over processes.
    """
    if isinstance(model, PeftModel):
        model.save_pretrained(str(path), save_embedding_layers=False, state_dict=weights)
    elif isinstance(model, PreTrainedModel):
        model.save_pretrained(str(path), state_dict=weights)
    else:
        raise CircuitsError(f"{type(model).__name__}: neither a Hugging Face nor a PEFT model")
    if tokenizer is not None:
        tokenizer.save_pretrained(str(path))


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the weights that `save_model` wrote into a model of the same shape."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_peft_weights(str(path), device="cpu"))
        return
    saved_model = auto_class(load_config(path)).from_pretrained(str(path), dtype="auto")
    model.load_state_dict(saved_model.state_dict())


def _short(value: object) -> str:
    """A value for a message: of a hash its beginning."""
    text = str(value)
    longest, begins = (16, 8) if isinstance(value, str) else (80, 72)
    return text if len(text) <= longest else f"{text[:begins]}..."
