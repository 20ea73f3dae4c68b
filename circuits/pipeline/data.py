"""A run's task, tokenizer and pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerBase

import tasks
from circuits.evaluation import perturb
from circuits.models.begin import missing_begin
from circuits.models.checkpoints import bases, load_config, resolve, tokenizer_of
from circuits.models.context_length import context_window
from circuits.pipeline.example import example_article
from circuits.pipeline.recipe import Recipe, plain
from circuits.pipeline.store import Store
from circuits.runtime.files import fingerprint, read_json, write_json
from circuits.runtime.notices import say
from tasks.named_splits import Split
from tasks.pairs import PairSet, TrainingExample
from tasks.skipping import Skipped, described
from tasks.task import FileTask, Task, TrainableTask

_LISTED = TypeAdapter(dict[str, list[dict[str, str]]])


@dataclass
class Data:
    """What the recipe says of the task, ready to use."""

    recipe: Recipe
    store: Store

    def task(self, **changes: object) -> Task:
        """The recipe's task, with other options where given."""
        return tasks.load(self.recipe.task.name, **{**self.recipe.task_options, **changes})

    @cached_property
    def trainable(self) -> TrainableTask | None:
        """The task, if a model can be trained on it."""
        task = self.task()
        return task if isinstance(task, TrainableTask) else None

    @cached_property
    def words(self) -> str:
        """What ROUGE counts, where the task says so."""
        return str(getattr(self.task(), "words", "auto"))

    @cached_property
    def files(self) -> list[str]:
        """Fingerprints of the local files that the task reads, under any of its options."""
        options = [{}, *self.recipe.evaluation.variants.values()]
        variants = [self.task(**changes) for changes in options]
        files = {file for task in variants if isinstance(task, FileTask) for file in task.files}
        return [fingerprint(file) for file in sorted(files)]

    @cached_property
    def base(self) -> list[str]:
        """What the base model, and another tokenizer, are: names, fingerprints of local places."""
        names = [self.recipe.model, *([self.recipe.tokenizer] if self.recipe.tokenizer else [])]
        locations = [resolve(name)[0] for name in [*names, *bases(self.recipe.model)]]
        return [
            *names,
            *(fingerprint(location) for location in locations if Path(location).exists()),
        ]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base model's, or the one that is named; `check` has refused a missing one."""
        return tokenizer_of(self.recipe.tokenizer or self.recipe.model)

    @cached_property
    def n_ctx(self) -> int | None:
        """The base model's window, known before its weights are loaded."""
        return context_window(load_config(self.recipe.model))

    def make_pairs(self) -> None:
        """The stage `pairs`: every pair set of the run, and one article laid open."""
        recipe = self.recipe
        conditions = ["score", "evaluate", *self.conditions]

        def work() -> dict[str, str]:
            self.require_examples()
            pair_sets = {
                "score": self.pairs_of("validation", recipe.pairs.score),
                "evaluate": self.pairs_of("test", recipe.pairs.evaluate),
            }
            for corruption in recipe.evaluation.corruptions:
                pair_sets[corruption] = self.pairs_of(
                    "test", recipe.pairs.evaluate, corruption=corruption
                )
            anew: Callable[..., PairSet] = self.pairs_of  # options that the task alone knows
            for name, options in recipe.evaluation.variants.items():
                pair_sets[name] = anew("test", recipe.pairs.evaluate, **options)
            for kind in recipe.evaluation.perturbations:
                pair_sets[kind] = perturb(
                    pair_sets["evaluate"],
                    kind,
                    self.tokenizer,
                    n_ctx=self.n_ctx,
                    seed=recipe.seed,
                )
            if recipe.evaluation.other_examples:
                pair_sets["other-examples"] = self.pairs_of(
                    "train", recipe.evaluation.other_examples, seed=recipe.seed + 1
                )
            prompts = [pair.clean for pair in pair_sets["score"]]
            if missing := missing_begin(load_config(recipe.model), self.tokenizer, prompts):
                say(str(missing))
            self.store.path("pairs").mkdir(exist_ok=True)
            for name, pairs in pair_sets.items():
                pairs.save(self.store.path("pairs", f"{name}.jsonl"))
            example_article(
                self.task(),
                self.tokenizer,
                pair_sets["evaluate"],
                {name: pair_sets[name] for name in recipe.evaluation.corruptions},
                split="test",
                seed=recipe.seed,
                n_ctx=self.n_ctx,
            ).save(self.store.path("pairs", "example.json"))
            return {name: pairs.fingerprint for name, pairs in pair_sets.items()}

        self.store.stage(
            "pairs",
            [
                plain(recipe.task),
                plain(recipe.pairs),
                recipe.evaluation.corruptions,
                recipe.evaluation.variants,
                recipe.evaluation.perturbations,
                recipe.evaluation.other_examples,
                self.files,
                self.base,
                recipe.seed,
            ],
            work,
            files=["pairs/example.json", *(f"pairs/{name}.jsonl" for name in conditions)],
        )

    @property
    def conditions(self) -> list[str]:
        """Pair sets for robustness, beside the evaluation set."""
        evaluation = self.recipe.evaluation
        other_examples = ["other-examples"] if evaluation.other_examples else []
        return [
            *evaluation.corruptions,
            *evaluation.variants,
            *evaluation.perturbations,
            *other_examples,
        ]

    def pairs_of(
        self, split: Split, n: int, *, seed: int | None = None, **changes: object
    ) -> PairSet:
        """Pairs made again."""
        seed = self.recipe.seed if seed is None else seed
        pairs = self.task(**changes).pairs(
            self.tokenizer, n, split=split, seed=seed, n_ctx=self.n_ctx
        )
        self._list_skipped(split, pairs.skipped)
        return pairs

    def pairs(self, name: str) -> PairSet:
        """Pairs of the run folder."""
        return PairSet.load(self.store.path("pairs", f"{name}.jsonl"))

    def require_examples(self) -> None:
        """Refuse now what the stages after the fine-tuning would find too few or too long."""
        lora, quality = self.recipe.lora, self.recipe.evaluation.quality
        if quality is not None and self.trainable is not None:
            self.examples("test", quality.n_examples)
        if lora is not None:
            self.examples("train", lora.examples)
            self.examples("test", lora.held_out)
            if lora.validation:
                self.examples("validation", lora.validation)

    def examples(self, split: Split, n: int) -> Sequence[TrainingExample]:
        """Training examples; `check` has refused tasks without any."""
        assert self.trainable is not None
        examples = self.trainable.examples(
            self.tokenizer, n, split=split, seed=self.recipe.seed, n_ctx=self.n_ctx
        )
        self._list_skipped(split, getattr(examples, "skipped", ()))
        return examples

    def _list_skipped(self, split: str, skipped: Sequence[Skipped]) -> None:
        """Keep the rows that were left out in skipped.json, by split, and say it of new ones."""
        file = self.store.path("skipped.json")
        if not skipped:
            return
        listed = _LISTED.validate_python(read_json(file)) if file.exists() else {}
        recorded = listed.setdefault(split, [])
        new = [row for row in skipped if asdict(row) not in recorded]
        if new:
            recorded += [asdict(row) for row in new]
            write_json(file, listed)
            say(f"{split}: {described(new)}; skipped.json lists them")
