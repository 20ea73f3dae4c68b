"""A controlled comparison of LoRAs on different layers.

Every condition starts from the same base and takes the same number of steps on the same batches.
Ranks are set so that each condition trains as nearly as possible the parameters of a LoRA of the
stated rank on all layers; integer ranks leave a remainder, so the counts and their ratio are
reported. Scores are on held-out examples; each condition is run once per seed (order of the data,
first weights of the adapter, and the layers of a random condition).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from circuits.errors import CircuitsError
from circuits.models.checkpoints import Loaded, as_device, load, resolve
from circuits.options.run import RunOptions
from circuits.options.tuning import LoraProtocol
from circuits.runtime.files import working_in
from circuits.runtime.hands import done_in_order
from circuits.tuning.batches import TunedModel, require_examples
from circuits.tuning.finetune import finetune
from circuits.tuning.lora_result import BaseResult, LoraComparison, LoraRun, RunResult
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.rouge import SummaryScores, evaluate_summaries
from circuits.tuning.targets import (
    Projections,
    lora_config,
    trainable_parameters,
    wrap,
)
from circuits.tuning.training_folder import claim_folder, fingerprint_examples, fingerprint_model
from tasks.pairs import TrainingExample


def compare_lora_targets(
    model_folder: str | Path,
    train: Sequence[TrainingExample],
    held_out: Sequence[TrainingExample],
    targets: Sequence[LoraTarget],
    protocol: LoraProtocol,
    out: str | Path,
    *,
    device: torch.device | str | None = None,
    options: RunOptions | None = None,
) -> LoraComparison:
    """Train and score a LoRA for every condition and seed, all from one base model.

    A finished run is not run again, and one that was killed continues.

    Args:
        model_folder: a local folder with the tokenizer in it, a hub id, or a GGUF file.
        train: training examples.
        held_out: other examples, for ROUGE, loss and token accuracy.
        targets: the conditions, each with a name of its own.
        protocol: what all conditions share.
        out: folder for `<condition>/seed-<n>/` with the adapter (`step-<steps>/`),
            `training_log.json` and `result.json` (scores of every example).
        device: None takes the first accelerator, or the CPU.
        options: progress bars, and an engine, whose workers train conditions side by side and write
            to `out`; batches and seeds are the protocol's.

    Returns:
        Every run, and the scores of the untrained base model.

    Raises:
        CircuitsError: if two conditions have one name, if the folder holds another comparison, or
            if another process works in it.
    """
    options = options or RunOptions()
    if not targets or len({target.name for target in targets}) != len(targets):
        raise CircuitsError("a comparison needs one condition or more, each with its own name")
    with working_in(out, r"run\.json|base\.json"):
        comparison = _Comparison(
            str(model_folder), train, held_out, protocol, Path(out), as_device(device)
        )
        todo = [(target, seed) for seed in protocol.seeds for target in targets]
        engine = options.engine
        work = comparison.run
        if engine is not None:
            work = comparison.elsewhere(engine.device).run
        elif options.progress:
            work = partial(comparison.run, progress=True)
        done = done_in_order(work, todo, called=_named, engine=engine)
        bar = tqdm(done, "LoRA targets", len(todo), unit="run", disable=not options.progress)
        runs = list(bar)
    order = [target.name for target in targets]
    return LoraComparison(
        targets=tuple(targets),
        runs=tuple(sorted(runs, key=lambda run: (order.index(run.condition), run.seed))),
        base=comparison.base.means,
        budget=comparison.budget,
        steps=protocol.training.steps,
        held_out=len(held_out),
    )


class _Comparison:
    """What all runs share. Construction claims the folder and scores the base model."""

    def __init__(
        self,
        model_folder: str,
        train: Sequence[TrainingExample],
        held_out: Sequence[TrainingExample],
        protocol: LoraProtocol,
        out: Path,
        device: torch.device,
    ) -> None:
        self.model_folder, self.device, self.protocol = model_folder, device, protocol
        self.train, self.held_out, self.out = train, held_out, out
        loaded = self.load()
        model, self.tokenizer = loaded.model, loaded.words
        require_examples(train, model)
        require_examples(held_out, model, what="held-out")
        self.projections = Projections.of(model, protocol.parts)
        self.budget = self.projections.parameters(range(self.projections.n_layers), protocol.rank)
        training = asdict(protocol.training)
        claim_folder(
            out,
            {
                **{name: value for name, value in training.items() if name not in _NOT_SHARED},
                "model": fingerprint_model(model),
                "examples": fingerprint_examples(train),
                "held_out": fingerprint_examples(held_out),
                "rank": protocol.rank,
                "parts": sorted(protocol.parts),
                "max_new_tokens": protocol.max_new_tokens,
                "words": protocol.words,
            },
        )
        file = out / "base.json"
        if not file.exists():
            BaseResult(scores=self.score(model)).save(file)
        self.base = BaseResult.load(file).scores

    def load(self) -> Loaded:
        """The base model, fresh, in float32, and its tokenizer."""
        loaded = load(self.model_folder, tokenizer=self.protocol.tokenizer, device=self.device)
        folder = Path(resolve(self.model_folder)[0])
        if folder.is_dir():  # so that the adapter finds its base from anywhere
            loaded.model.config.name_or_path = str(folder.resolve())
        return loaded

    def score(self, model: TunedModel) -> SummaryScores:
        """Scores on the held-out examples."""
        return evaluate_summaries(
            model,
            self.tokenizer,
            self.held_out,
            max_new_tokens=self.protocol.max_new_tokens,
            words=self.protocol.words,
        )

    def elsewhere(self, device: str) -> _Comparison:
        """The same, for a process that may stand in another folder and computes on this device."""
        other = copy.copy(self)
        other.device, other.out = torch.device(device), self.out.absolute()
        if Path(self.model_folder).exists():
            other.model_folder = str(Path(self.model_folder).absolute())
        return other

    def run(self, what: tuple[LoraTarget, int], *, progress: bool = False) -> LoraRun:
        """Train and score one condition with one seed, or read what an earlier call found."""
        target, seed = what
        layers = target.choose(self.projections.n_layers, seed)
        rank = self.projections.matching_rank(layers, self.budget)
        folder = self.out / target.name / f"seed-{seed}"
        file = folder / "result.json"
        if not file.exists():
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(seed)  # PEFT draws the adapter's first weights
                base = self.load().model
                config = lora_config(layers, base, rank, parts=self.protocol.parts)
                model = wrap(base, config)
            settings = replace(self.protocol.training, seed=seed)
            result = finetune(model, self.train, folder, settings=settings, progress=progress)
            scores = self.score(model)
            run = LoraRun(
                condition=target.name,
                seed=seed,
                layers=layers,
                rank=rank,
                parameters=trainable_parameters(model),
                seconds=result.log.seconds,
                scores=scores.means,
                adapter=str(result.last.relative_to(self.out)),
            )
            RunResult(run=run, scores=scores).save(file)
        found = RunResult.load(file).run
        if (found.layers, found.rank) != (layers, rank):
            raise CircuitsError(
                f"{folder}: holds condition {target.name!r} on layers {list(found.layers)} at rank "
                f"{found.rank}, now {list(layers)} at {rank}; choose another folder or remove it"
            )
        return found


def _named(what: tuple[LoraTarget, int]) -> str:
    return f"LoRA {what[0].name}, seed {what[1]}"


_NOT_SHARED = {
    "seed",
    "save_state_every",
    "checkpoint_steps",
    "log_checkpoints",
    "validate_every",
    "patience",
    "log_to",
}
