"""A fair race between LoRAs on different layers.

Every arm starts from the same base and takes the same number of steps on the same batches. Ranks
are set so that each arm trains as nearly as possible the parameters of a LoRA of the stated rank on
all layers; integer ranks leave a remainder, so the counts and their ratio are reported. Scores are
on held-out examples; each arm is run once per seed (order of the data, first weights of the
adapter, and the layers of a random arm), and the spread over seeds stands beside each mean.
Nothing here presumes which arm is best.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from circuits.errors import CircuitsError
from circuits.models.checkpoints import Loaded, as_device, load, resolve
from circuits.runtime.files import read_json, working_in, write_json
from circuits.tuning.batches import require_examples
from circuits.tuning.finetune import finetune
from circuits.tuning.lora_targets import LoraTarget, describe
from circuits.tuning.rouge import METRICS, evaluate_summaries
from circuits.tuning.run_folder import claim_folder, fingerprint_examples, fingerprint_model
from circuits.tuning.settings import FinetuneSettings
from circuits.tuning.targets import (
    PARTS,
    Projections,
    lora_config,
    trainable_parameters,
    wrap,
)
from tasks.pairs import TrainingExample


@dataclass(frozen=True)
class ArmRun:
    """One arm with one seed.

    scores: means over the held-out examples, by the names in `rouge.METRICS`.
    parameters: trained ones, counted.
    seconds: spent training.
    adapter: the PEFT folder, relative to the race's own.
    """

    arm: str
    seed: int
    layers: tuple[int, ...]
    rank: int
    parameters: int
    seconds: float
    scores: dict[str, float]
    adapter: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "layers": list(self.layers)}


@dataclass(frozen=True)
class LoraComparison:
    """All runs of a race.

    base: scores of the base model, untrained.
    budget: parameters of a LoRA of the stated rank on all layers, which every arm aims at.
    """

    lora_targets: tuple[LoraTarget, ...]
    runs: tuple[ArmRun, ...]
    base: dict[str, float]
    budget: int
    steps: int
    held_out: int

    def of(self, arm: str) -> tuple[ArmRun, ...]:
        """The runs of one arm, by seed."""
        return tuple(run for run in self.runs if run.arm == arm)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: each arm's mean and spread over seeds, and every run."""
        return {
            "base": self.base,
            "budget": self.budget,
            "steps": self.steps,
            "held_out": self.held_out,
            "arms": [self._summary(arm) for arm in self.lora_targets],
            "runs": [run.to_dict() for run in self.runs],
        }

    def _summary(self, arm: LoraTarget) -> dict[str, Any]:
        runs = self.of(arm.name)
        parameters = statistics.fmean(run.parameters for run in runs)
        return {
            **describe(arm),
            "seeds": [run.seed for run in runs],
            "rank": sorted({run.rank for run in runs}),
            "parameters": parameters,
            "parameters_to_budget": parameters / self.budget,
            "seconds": statistics.fmean(run.seconds for run in runs),
            "scores": {name: _spread([run.scores[name] for run in runs]) for name in METRICS},
        }


def compare_lora_targets(
    model_folder: str | Path,
    train: Sequence[TrainingExample],
    validation: Sequence[TrainingExample],
    lora_targets: Sequence[LoraTarget],
    settings: FinetuneSettings,
    seeds: Sequence[int],
    out: str | Path,
    *,
    rank: int = 8,
    parts: Collection[str] = PARTS,
    max_new_tokens: int | None = None,
    words: str = "auto",
    tokenizer: str | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> LoraComparison:
    """Train and score every arm with every seed, from one base model.

    model_folder: a local folder with the tokenizer in it (or a hub id, or a GGUF file).
    validation: held-out examples, for ROUGE, loss and token accuracy.
    settings: `seed` is replaced by each of `seeds`; early stopping is refused, since every arm
        takes equal steps.
    out: holds `<arm>/seed-<n>/` with the adapter (`step-<steps>/`), `training_log.json` and
        `result.json` (scores of every example). A finished run is not run again; one that was
        killed goes on. A folder of another race is refused, and one that another process works in.
    rank: of the LoRA on all layers that sets the number of parameters.
    words: what ROUGE counts (`tasks.text.rouge`).
    tokenizer: where another one than the model's own is taken from.
    device: None takes the first accelerator, or the CPU.
    """
    if settings.patience is not None:
        raise CircuitsError("patience: arms take equal steps, so early stopping must be None")
    if not lora_targets or len({arm.name for arm in lora_targets}) != len(lora_targets):
        raise CircuitsError("a race needs one arm or more, each with a name of its own")
    if not seeds or len(set(seeds)) != len(seeds):
        raise CircuitsError("a race needs one seed or more, no two alike")
    with working_in(out, r"run\.json|base\.json"):
        race = _Race(
            str(model_folder),
            train,
            validation,
            Path(out),
            settings,
            rank,
            parts,
            max_new_tokens,
            words,
            tokenizer,
            device,
        )
        todo = [(arm, seed) for seed in seeds for arm in lora_targets]
        bar = tqdm(todo, desc="LoRA arms", unit="run", disable=not progress)
        runs = [race.run(arm, replace(settings, seed=seed), progress=progress) for arm, seed in bar]
    order = [arm.name for arm in lora_targets]
    return LoraComparison(
        lora_targets=tuple(lora_targets),
        runs=tuple(sorted(runs, key=lambda run: (order.index(run.arm), run.seed))),
        base=race.base_scores,
        budget=race.budget,
        steps=settings.steps,
        held_out=len(validation),
    )


class _Race:
    """What all runs share. Construction claims the folder and scores the base model."""

    def __init__(
        self,
        model_folder: str,
        train: Sequence[TrainingExample],
        validation: Sequence[TrainingExample],
        out: Path,
        settings: FinetuneSettings,
        rank: int,
        parts: Collection[str],
        max_new_tokens: int | None,
        words: str,
        tokenizer: str | None,
        device: torch.device | str | None,
    ) -> None:
        self.model_folder, self.device = model_folder, as_device(device)
        self.asked_tokenizer = tokenizer
        self.train, self.validation, self.out = train, validation, out
        self.parts, self.max_new_tokens, self.words = parts, max_new_tokens, words
        loaded = self.load()
        model, self.tokenizer = loaded.model, loaded.words
        require_examples(self.train, model)
        require_examples(self.validation, model, what="held-out")
        self.projections = Projections.of(model, self.parts)
        self.budget = self.projections.parameters(range(self.projections.n_layers), rank)
        shared = {k: v for k, v in settings.to_dict().items() if k not in _NOT_SHARED}
        claim_folder(
            self.out,
            {
                **shared,
                "model": fingerprint_model(model),
                "examples": fingerprint_examples(self.train),
                "held_out": fingerprint_examples(self.validation),
                "rank": rank,
                "parts": sorted(self.parts),
                "max_new_tokens": self.max_new_tokens,
                **({} if words == "auto" else {"words": words}),
            },
        )
        file = self.out / "base.json"
        if not file.exists():
            write_json(file, self.score(model))
        self.base_scores: dict[str, float] = read_json(file)["means"]

    def load(self) -> Loaded:
        """The base model, fresh, in float32, and its tokenizer."""
        loaded = load(self.model_folder, tokenizer=self.asked_tokenizer, device=self.device)
        folder = Path(resolve(self.model_folder)[0])
        if folder.is_dir():  # so that the adapter finds its base from anywhere
            loaded.model.config.name_or_path = str(folder.resolve())
        return loaded

    def score(self, model: Any) -> dict[str, Any]:
        """Scores on the held-out examples."""
        return evaluate_summaries(
            model,
            self.tokenizer,
            self.validation,
            max_new_tokens=self.max_new_tokens,
            words=self.words,
        ).to_dict()

    def run(self, arm: LoraTarget, settings: FinetuneSettings, *, progress: bool) -> ArmRun:
        """Train and score one arm with one seed, or read what an earlier call found."""
        layers = arm.choose(self.projections.n_layers, settings.seed)
        rank = self.projections.matching_rank(layers, self.budget)
        folder = self.out / arm.name / f"seed-{settings.seed}"
        file = folder / "result.json"
        if not file.exists():
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(settings.seed)  # PEFT draws the adapter's first weights
                base = self.load().model
                model = wrap(base, lora_config(layers, base, rank, parts=self.parts))
            result = finetune(model, self.train, folder, settings=settings, progress=progress)
            run = ArmRun(
                arm=arm.name,
                seed=settings.seed,
                layers=layers,
                rank=rank,
                parameters=trainable_parameters(model),
                seconds=result.seconds,
                scores={},
                adapter=str(result.last.relative_to(self.out)),
            )
            write_json(file, {**run.to_dict(), "scores": self.score(model)})
        found = read_json(file)
        if (found["layers"], found["rank"]) != (list(layers), rank):
            raise CircuitsError(
                f"{folder}: holds arm {arm.name!r} on layers {found['layers']} at rank "
                f"{found['rank']}, now {list(layers)} at {rank}; choose another folder or remove it"
            )
        return ArmRun(
            **{**found, "layers": tuple(found["layers"]), "scores": found["scores"]["means"]}
        )


_NOT_SHARED = {"seed", "save_state_every", "checkpoint_steps", "validate_every", "patience"}


def _spread(values: list[float]) -> dict[str, float | None]:
    """Mean, standard deviation (n - 1; None for a single value) and range."""
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
    }
