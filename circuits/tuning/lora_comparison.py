"""A controlled comparison of LoRAs on different parts of a model, and of other ways to train it.

Every condition starts from the same base and takes the same number of steps on the same batches.
Ranks are set so that each condition trains as nearly as possible the parameters of a LoRA of the
stated rank on all layers, where it has no rank of its own; integer ranks leave a remainder, so the
counts are reported. Scores are on held-out examples; each condition is run once for each seed
(order of the data, first weights of the adapter, and the layers of a random condition).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

from circuits.errors import CircuitsError, DivergedError
from circuits.models.checkpoints import Loaded, as_device, load, resolve
from circuits.options.run import RunOptions
from circuits.options.tuning import FinetuneSettings, LoraProtocol
from circuits.runtime.files import working_in
from circuits.runtime.hands import done_in_order
from circuits.tuning.batches import require_examples
from circuits.tuning.finetune import FinetuneResult, finetune
from circuits.tuning.heads import (
    HeadSlice,
    TrainedHeads,
    head_slices,
    important_heads,
    narrowed,
    train_heads_alone,
)
from circuits.tuning.identity import (
    adapter_identity,
    data_identity,
    fingerprint_examples,
    fingerprint_tokenizer,
    model_identity,
    settings_identity,
)
from circuits.tuning.lora_differences import differences
from circuits.tuning.lora_result import (
    BaseResult,
    LoraComparison,
    LoraRun,
    RateTrial,
    RunResult,
    TrialResult,
)
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.loss import score_targets
from circuits.tuning.planned_runs import (
    PlannedRun,
    planned_runs,
    planned_trials,
    rate_choices,
    run_settings,
    trial_settings,
)
from circuits.tuning.projections import Projections, layers_of
from circuits.tuning.rouge import SummaryScores, evaluate_summaries
from circuits.tuning.targets import adapter_ranks, lora_config, trainable_parameters, wrap
from circuits.tuning.training_folder import (
    TrainingFolder,
    claim_folder,
    require_same_run,
)
from circuits.tuning.tuned_model import TunedModel
from tasks.pairs import TrainingExample

Result = TypeVar("Result")


@dataclass(frozen=True)
class ComparedExamples:
    """What a comparison learns from and is judged on.

    Attributes:
        train: training examples.
        held_out: other examples, for ROUGE, loss and token accuracy.
        validation: others again, for learning rates and the steps to a loss; none leaves both out.
    """

    train: Sequence[TrainingExample]
    held_out: Sequence[TrainingExample]
    validation: Sequence[TrainingExample] | None = None


def compare_lora_targets(
    model_folder: str | Path,
    examples: ComparedExamples,
    targets: Sequence[LoraTarget],
    protocol: LoraProtocol,
    out: str | Path,
    *,
    device: torch.device | str | None = None,
    options: RunOptions | None = None,
) -> LoraComparison:
    """Train and score every condition with every seed, all from one base model.

    Where the protocol has a grid of learning rates, each condition first takes the one of the
    lowest validation loss. A finished run or trial is not run again, also where conditions, seeds
    or rates were added, and one that was killed continues.

    Args:
        model_folder: a local folder with the tokenizer in it, a hub id, or a GGUF file.
        examples: what is trained and judged on.
        targets: the conditions, each with a name of its own; each is compared with those after it.
        protocol: what all conditions share.
        out: folder for `<condition>/seed-<n>/` with the adapter (`step-<steps>/`),
            `training_log.json` and `result.json` (scores of every example), and for
            `<condition>/rate-<r>/`, the trials.
        device: None takes the first accelerator, or the CPU.
        options: progress bars, and an engine, whose workers train conditions side by side and write
            to `out`; batches and seeds are the protocol's.

    Returns:
        Every run, the scores of the untrained base model, and every difference with its interval.

    Raises:
        CircuitsError: if two conditions have one name, if the folder holds another comparison, or
            if another process works in it.
    """
    options = options or RunOptions()
    if not targets or len({target.name for target in targets}) != len(targets):
        raise CircuitsError("a comparison needs one condition or more, each with its own name")
    if protocol.adapter.dora and (named := [target.name for target in targets if target.by_head]):
        raise CircuitsError(
            f"condition {named[0]!r}: a DoRA scales whole rows of a matrix, and so heads that are "
            "not to be trained; leave dora or the condition out"
        )
    if protocol.learning_rates and not examples.validation:
        raise CircuitsError("learning_rates: they are tuned on validation examples; give some")
    with working_in(out, r"run\.json|base\.json"):
        comparison = _Comparison(
            str(model_folder),
            examples,
            protocol,
            Path(out),
            as_device(device),
            by_head=any(target.by_head for target in targets),
        )
        trials = planned_trials(targets, protocol)
        comparison.require_same(trials, planned_runs(targets, protocol, ()))
        trial_results = comparison.done(
            lambda worker: worker.trial, trials, options, "learning rates"
        )
        rates = rate_choices(trials, trial_results)
        planned = planned_runs(targets, protocol, rates)
        comparison.require_same((), planned)
        runs = comparison.done(lambda worker: worker.run, planned, options, "LoRA targets")
    order = {target.name: index for index, target in enumerate(targets)}
    results = sorted(
        runs, key=lambda result: (order[result.run.condition], result.run.seed, result.run.draw)
    )
    scores: dict[str, dict[int, list[SummaryScores]]] = {}
    for result in results:
        scores.setdefault(result.run.condition, {}).setdefault(result.run.seed, []).append(
            result.scores
        )
    return LoraComparison(
        targets=tuple(targets),
        runs=tuple(result.run for result in results),
        base=comparison.base.means,
        budget=comparison.budget,
        steps=protocol.training.steps,
        held_out=len(examples.held_out),
        rates=rates,
        differences=differences(scores, comparison.base),
    )


class _Comparison:
    """What all runs share. Construction claims the folder and scores the base model."""

    def __init__(
        self,
        model_folder: str,
        examples: ComparedExamples,
        protocol: LoraProtocol,
        out: Path,
        device: torch.device,
        *,
        by_head: bool,
    ) -> None:
        self.model_folder, self.device, self.protocol = model_folder, device, protocol
        self.examples, self.out, self.progress = examples, out, False
        loaded = self.load()
        model, self.tokenizer = loaded.model, loaded.words
        require_examples(examples.train, model)
        require_examples(examples.held_out, model, what="held-out")
        self.projections = Projections.of(model, dora=protocol.adapter.dora)
        shared = self.projections.only(protocol.parts)
        self.slices: tuple[HeadSlice, ...] = head_slices(model) if by_head else ()
        self.budget = shared.parameters(range(shared.n_layers), protocol.rank)
        self.data = data_identity(examples.train, examples.validation)
        training = asdict(protocol.training)
        claim_folder(
            out,
            {
                **{name: value for name, value in training.items() if name not in _NOT_SHARED},
                **asdict(protocol.adapter),
                **model_identity(model),
                **self.data,
                "held_out": fingerprint_examples(examples.held_out),
                "tokenizer": fingerprint_tokenizer(self.tokenizer),
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
            self.examples.held_out,
            max_new_tokens=self.protocol.max_new_tokens,
            words=self.protocol.words,
        )

    def elsewhere(self, device: str) -> _Comparison:
        """The same, for a process that may stand in another folder and computes on this device."""
        clone = copy.copy(self)
        clone.device, clone.out = torch.device(device), self.out.absolute()
        if Path(self.model_folder).exists():
            clone.model_folder = str(Path(self.model_folder).absolute())
        return clone

    def done(
        self,
        work: Callable[[_Comparison], Callable[[PlannedRun], Result]],
        todo: Sequence[PlannedRun],
        options: RunOptions,
        title: str,
    ) -> list[Result]:
        """What came of each piece of work, in order, by this process or an engine's workers."""
        engine = options.engine
        worker = self if engine is None else self.elsewhere(engine.device)
        worker.progress = options.progress and engine is None
        results = done_in_order(work(worker), todo, called=str, engine=engine)
        hidden = not options.progress or not todo
        return list(tqdm(results, title, len(todo), unit="run", disable=hidden))

    def require_same(self, trials: Sequence[PlannedRun], runs: Sequence[PlannedRun]) -> None:
        """Refuse what was begun or done with other settings, ranks or heads, before any training.

        runs: where the learning rate is still to be tuned, all but the rate is looked at.
        """
        for planned in trials:
            identity = self.identity(planned, trial_settings(planned, self.protocol))
            require_same_run(self.out / planned.trial_folder, identity)
        for planned in runs:
            identity = self.identity(planned, run_settings(planned, self.protocol))
            if self.protocol.learning_rates and not (planned.rate or planned.target.learning_rate):
                del identity["learning_rate"]
            require_same_run(self.out / planned.folder, identity)

    def identity(self, planned: PlannedRun, settings: FinetuneSettings) -> dict[str, object]:
        """What a run or trial is made of, beside what all share."""
        heads = self.adapted_heads(planned)
        nodes = {name: [head.node for head in of_map] for name, of_map in heads.items()}
        adapter = adapter_identity(self.ranks(planned), nodes)
        return {**settings_identity(settings), **self.data, **adapter}

    def trial(self, planned: PlannedRun) -> TrialResult:
        """How good one learning rate is for one condition."""
        folder = self.out / planned.trial_folder
        file = folder / "result.json"
        if not file.exists():
            settings = trial_settings(planned, self.protocol)
            try:
                _, result, _ = self.trained(planned, settings, folder)
                loss = result.log.validation[-1].loss
            except DivergedError:
                loss = math.nan
            trial = RateTrial(settings.learning_rate, loss)
            TrialResult(trial=trial, steps=settings.steps, seed=planned.seed).save(file)
        training_folder = TrainingFolder(folder)
        for step in training_folder.checkpoints:  # nobody asks for it
            training_folder.drop_checkpoint(step)
        return TrialResult.load(file)

    def run(self, planned: PlannedRun) -> RunResult:
        """Train and score one condition with one seed, or read what an earlier call found."""
        target, folder = planned.target, self.out / planned.folder
        file = folder / "result.json"
        if not file.exists():
            settings, ranks = run_settings(planned, self.protocol), self.ranks(planned)
            heads = [
                head.node for of_map in self.adapted_heads(planned).values() for head in of_map
            ]
            model, result, parameters = self.trained(planned, settings, folder)
            scores = self.score(model)
            fitted = score_targets(model, self.examples.train[: len(self.examples.held_out)])
            run = LoraRun(
                condition=target.name,
                seed=planned.seed,
                layers=layers_of(ranks) or tuple(range(self.projections.n_layers)),
                ranks=adapter_ranks(model),
                parameters=parameters,
                learning_rate=settings.learning_rate,
                seconds=result.log.seconds,
                scores=scores.means,
                fitted=fitted.mean_loss,
                adapter=str(result.last.relative_to(self.out)),
                validation=result.log.validation,
                draw=planned.draw,
                heads=tuple(heads),
            )
            RunResult(run=run, scores=scores).save(file)
        return RunResult.load(file)

    def heads(self, target: LoraTarget) -> dict[str, tuple[HeadSlice, ...]]:
        """Of a condition by head, the heads that are trained, by map."""
        if not target.by_head or target.maps is None:
            return {}
        return important_heads(self.slices, target.maps)

    def adapted_heads(self, planned: PlannedRun) -> dict[str, tuple[HeadSlice, ...]]:
        """Of those, the heads in maps that get an adapter: few parameters leave some without."""
        ranks, heads = self.ranks(planned), self.heads(planned.target)
        return {name: of_map for name, of_map in heads.items() if name in ranks}

    def ranks(self, planned: PlannedRun) -> dict[str, int]:
        """The rank of every map that gets an adapter."""
        target = planned.target
        projections = self.projections.only(target.parts or self.protocol.parts)
        if target.by_head:
            projections = narrowed(projections, self.heads(target))
        return target.ranks(projections, self.budget, planned.seed, planned.draw)

    def trained(
        self, planned: PlannedRun, settings: FinetuneSettings, folder: Path
    ) -> tuple[TunedModel, FinetuneResult, int]:
        """The base with its adapter, or whole, after training; and how many parameters trained."""
        model: TunedModel
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(planned.seed)  # PEFT draws the adapter's first weights
            model = base = self.load().model
            trained_heads: TrainedHeads | None = None
            if not planned.target.full:
                adapter, ranks = asdict(self.protocol.adapter), self.ranks(planned)
                model = wrap(base, lora_config(ranks, base, **adapter))
                trained_heads = train_heads_alone(model, self.adapted_heads(planned))
        result = finetune(
            model,
            self.examples.train,
            folder,
            settings=settings,
            validation=self.examples.validation,
            progress=self.progress,
        )
        if trained_heads is None:
            return model, result, trainable_parameters(model)
        trained_heads.require_others_unchanged()
        return model, result, trained_heads.parameters


_NOT_SHARED = {
    "seed",
    "save_state_every",
    "checkpoint_steps",
    "log_checkpoints",
    "validate_every",
    "patience",
    "log_to",
}
