"""A run from base model to report, stage by stage.

    pairs -> checkpoints -> quality, scores -> circuits -> evaluation
                                        \\-> evolution
             checkpoints -> internals -> lora (with circuits) -> report

Every stage is the package's public function on the recipe's settings; this file only connects them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tasks
from circuits.attribution import attribute
from circuits.attribution import method as attribution_method
from circuits.attribution.attribute import Method
from circuits.errors import CircuitsError
from circuits.evaluation import VanishingMetricError, faithfulness, minimality, robustness
from circuits.evolution import compare, internals
from circuits.evolution.internals import CRITERIA
from circuits.files import write_json
from circuits.graph import Circuit, EdgeScores, select
from circuits.models import HookedModel, load_model, series
from circuits.models.checkpoints import as_device, load_tokenizer, resolve
from circuits.pipeline.example import example_article
from circuits.pipeline.quality import quality_intervals
from circuits.pipeline.recipe import Recipe
from circuits.pipeline.store import Store
from circuits.report import write_report
from circuits.tuning.arms import standard_arms
from circuits.tuning.bakeoff import bakeoff
from circuits.tuning.finetune import finetune
from circuits.tuning.importance import LayerImportance, importance_from_circuit
from circuits.tuning.rouge import evaluate_summaries
from circuits.tuning.settings import FinetuneSettings
from tasks.pairs import Example, PairSet
from tasks.task import Task, TrainableTask


def run(recipe: Recipe, folder: str | Path, *, progress: bool = True) -> Path:
    """Do everything that the recipe asks for, or what is left of it; returns the report's path."""
    _check(recipe)
    return _Pipeline(recipe, Store.open(folder, recipe), progress).run()


def _check(recipe: Recipe) -> None:
    """Refuse before anything is written what would be refused an hour later."""
    task = tasks.load(recipe.task.name, **recipe.task.options)
    for corruption in recipe.evaluation.corruptions:
        tasks.load(recipe.task.name, **{**recipe.task.options, "corruption": corruption})
    if not isinstance(task, TrainableTask) and (recipe.finetune or recipe.lora):
        raise CircuitsError(
            f"task {recipe.task.name!r} has no training examples; give `checkpoints` in place of "
            "`finetune`, and leave out `lora`"
        )
    _method(recipe)
    _finetune_settings(recipe)
    _lora_settings(recipe)
    if recipe.lora and recipe.lora.criterion not in CRITERIA:
        raise CircuitsError(
            f"lora.criterion {recipe.lora.criterion!r}: known are {', '.join(CRITERIA)}"
        )


def _method(recipe: Recipe) -> Method:
    section = recipe.attribution
    return attribution_method(section.method, steps=section.steps, quadrature=section.quadrature)


def _finetune_settings(recipe: Recipe) -> FinetuneSettings | None:
    if recipe.finetune is None:
        return None
    given = recipe.finetune.model_dump(exclude={"examples", "validation"})
    return FinetuneSettings(seed=recipe.seed, **given)


def _lora_settings(recipe: Recipe) -> FinetuneSettings | None:
    if recipe.lora is None:
        return None
    shared = {"steps", "learning_rate", "warmup_steps", "batch_size"}
    return FinetuneSettings(**recipe.lora.model_dump(include=shared))


@dataclass
class _Pipeline:
    recipe: Recipe
    store: Store
    progress: bool

    def run(self) -> Path:
        self.make_pairs()
        self.make_checkpoints()
        self.measure_quality()
        for name in self.checkpoints:
            self.score(name)
            self.choose_circuit(name)
            self.evaluate(name)
        self.write_evaluation()
        self.compare()
        self.look_inside()
        self.race_loras()
        self.store.write_environment(str(as_device(self.recipe.device)))
        return self.report()

    # -- task and pairs

    def task(self, **changes: Any) -> Task:
        section = self.recipe.task
        return tasks.load(section.name, **{**section.options, **changes})

    @cached_property
    def trainable(self) -> TrainableTask | None:
        task = self.task()
        return task if isinstance(task, TrainableTask) else None

    @cached_property
    def tokenizer(self) -> Any:
        name, revision = resolve(self.recipe.model)
        tokenizer = load_tokenizer(name, revision)
        if tokenizer is None:
            # Loading the model says what is wrong with the place; else only the tokenizer is.
            load_model(self.recipe.model)
            raise CircuitsError(f"{self.recipe.model}: the model has no tokenizer beside it")
        return tokenizer

    def make_pairs(self) -> None:
        recipe = self.recipe
        conditions = ["score", "evaluate", *self.conditions]

        def work() -> dict[str, str]:
            made = {
                "score": self.pairs_of("validation", recipe.pairs.score),
                "evaluate": self.pairs_of("test", recipe.pairs.evaluate),
            }
            for corruption in recipe.evaluation.corruptions:
                made[corruption] = self.pairs_of(
                    "test", recipe.pairs.evaluate, corruption=corruption
                )
            if recipe.evaluation.other_examples:
                made["other-examples"] = self.pairs_of(
                    "train", recipe.evaluation.other_examples, seed=recipe.seed + 1
                )
            self.store.path("pairs").mkdir(exist_ok=True)
            for name, pairs in made.items():
                pairs.save(self.store.path("pairs", f"{name}.jsonl"))
            write_json(
                self.store.path("pairs", "example.json"),
                example_article(
                    self.task(),
                    self.tokenizer,
                    made["evaluate"],
                    {name: made[name] for name in recipe.evaluation.corruptions},
                    split="test",
                    seed=recipe.seed,
                ),
            )
            return {name: pairs.fingerprint for name, pairs in made.items()}

        self.store.stage(
            "pairs",
            [
                recipe.task.model_dump(mode="json"),
                recipe.pairs.model_dump(),
                recipe.evaluation.corruptions,
                recipe.evaluation.other_examples,
                recipe.model,
                recipe.seed,
            ],
            work,
            files=["pairs/example.json", *(f"pairs/{name}.jsonl" for name in conditions)],
        )

    @property
    def conditions(self) -> list[str]:
        """Pair sets for robustness, beside the evaluation set."""
        other = ["other-examples"] if self.recipe.evaluation.other_examples else []
        return [*self.recipe.evaluation.corruptions, *other]

    def pairs_of(self, split: Any, n: int, *, seed: int | None = None, **changes: Any) -> PairSet:
        seed = self.recipe.seed if seed is None else seed
        return self.task(**changes).pairs(self.tokenizer, n, split=split, seed=seed)

    def pairs(self, name: str) -> PairSet:
        return PairSet.load(self.store.path("pairs", f"{name}.jsonl"))

    def examples(self, split: Any, n: int) -> list[Example]:
        assert self.trainable is not None
        return self.trainable.examples(self.tokenizer, n, split=split, seed=self.recipe.seed)

    # -- checkpoints

    def make_checkpoints(self) -> None:
        section = self.recipe.finetune
        if section is None:
            weights = [
                [file.name, file.stat().st_size, file.stat().st_mtime_ns]
                for place in self.checkpoints.values()
                for file in sorted(Path(place).glob("*.safetensors"))
            ]
            self.store.stage("checkpoints", [self.recipe.model, weights], lambda: None)
            return
        folder = self.store.path("checkpoints")
        settings = _finetune_settings(self.recipe)
        assert settings is not None

        def work() -> list[int]:
            model, _ = load_model(self.recipe.model, device=self.recipe.device)
            result = finetune(
                model,
                self.examples("train", section.examples),
                folder,
                settings=settings,
                validation=self.examples("validation", section.validation),
                tokenizer=self.tokenizer,
                progress=self.progress,
            )
            return list(result.checkpoints)

        self.store.stage(
            "checkpoints",
            [self.recipe.model, section.model_dump(mode="json"), self.recipe.seed],
            work,
            after=["pairs"],
            files=["checkpoints/training_log.json"],
        )

    @cached_property
    def checkpoints(self) -> dict[str, str]:
        """Names and places, the base first."""
        folder = self.recipe.checkpoints or self.store.path("checkpoints")
        return series(self.recipe.model, folder)

    def model(self, name: str) -> HookedModel:
        return HookedModel.from_pretrained(
            self.checkpoints[name], device=self.recipe.device, dtype=self.recipe.dtype
        )

    def measure_quality(self) -> None:
        n = self.recipe.evaluation.quality
        if n is None or self.trainable is None:
            return
        examples = self.examples("test", n)

        def work() -> dict[str, Any]:
            found = {}
            for name in self.checkpoints:
                model, _ = load_model(
                    self.checkpoints[name], device=self.recipe.device, dtype=self.recipe.dtype
                )
                scores = evaluate_summaries(model, self.tokenizer, examples)
                found[name] = {
                    **scores.means,
                    "n": len(scores),
                    "intervals": quality_intervals(scores, seed=self.recipe.seed),
                }
            return found

        self.store.stage("quality", [n, self.recipe.seed], work, after=["checkpoints"])

    # -- circuits

    def score(self, name: str) -> None:
        section = self.recipe.attribution
        chosen = _method(self.recipe)

        def work() -> None:
            attribute(
                self.model(name),
                self.pairs("score"),
                chosen,
                metric=section.metric,
                batch_size=section.batch_size,
                per_example=True,
                progress=self.progress,
            ).save(self.store.path("scores"), name)

        self.store.stage(
            f"scores/{name}",
            section.model_dump(),
            work,
            after=["pairs", "checkpoints"],
            files=[f"scores/{name}.safetensors", f"scores/{name}.json"],
        )

    def scores(self, name: str) -> EdgeScores:
        return EdgeScores.load(self.store.path("scores", f"{name}.safetensors"))

    def choose_circuit(self, name: str) -> None:
        section = self.recipe.circuit

        def work() -> None:
            scores = self.scores(name)
            edges = max(1, round(section.share * scores.layout.n_edges))
            circuit = select(scores, edges=edges, rule=section.rule, ranking=section.ranking)
            circuit.save(self.store.path("circuits", f"{name}.json"))

        self.store.stage(
            f"circuits/{name}",
            section.model_dump(),
            work,
            after=[f"scores/{name}"],
            files=[f"circuits/{name}.json"],
        )

    def circuit(self, name: str) -> Circuit:
        return Circuit.load(self.store.path("circuits", f"{name}.json"))

    def evaluate(self, name: str) -> None:
        """Faithfulness, minimality and robustness of one checkpoint's circuit."""
        section = self.recipe.evaluation

        def work() -> dict[str, Any]:
            model, circuit, pairs = self.model(name), self.circuit(name), self.pairs("evaluate")
            settings: dict[str, Any] = {
                "batch_size": section.batch_size,
                "seed": self.recipe.seed,
                "progress": self.progress,
            }
            metric = self.recipe.attribution.metric
            size = {"edges": len(circuit), "share": circuit.share, "nodes": len(circuit.nodes)}
            try:
                curve = faithfulness(model, self.scores(name), pairs, metric=metric, **settings)
            except VanishingMetricError as error:
                undefined = {"undefined": str(error)}
                return {"faithfulness": undefined, "circuit": size, "robustness": {}}
            conditions = {condition: self.pairs(condition) for condition in self.conditions}
            found = robustness(model, circuit, {"evaluate": pairs, **conditions}, **settings)
            own = found["evaluate"].circuit
            least = None
            if section.minimality and len(circuit):
                least = minimality(
                    model,
                    circuit,
                    pairs[: section.minimality],
                    metric=metric,
                    epsilon=section.epsilon,
                    controls=section.minimality_controls,
                    **settings,
                ).to_dict()
            return {
                "faithfulness": curve.to_dict(),
                "circuit": {**size, "faithfulness": None if own is None else own.to_dict()},
                "minimality": least,
                "robustness": {key: value.to_dict() for key, value in found.items()},
            }

        self.store.stage(
            f"evaluation/{name}",
            [section.model_dump(mode="json"), self.recipe.seed],
            work,
            after=["pairs", f"circuits/{name}"],
        )

    def write_evaluation(self) -> None:
        write_json(
            self.store.path("evaluation.json"),
            {
                "order": list(self.checkpoints),
                "quality": self.store.results.get("quality", {}),
                "checkpoints": {
                    name: self.store.results[f"evaluation/{name}"] for name in self.checkpoints
                },
                "pairs": {
                    name: {"n": len(pairs), "split": pairs.split, "fingerprint": pairs.fingerprint}
                    for name in ("score", "evaluate", *self.conditions)
                    for pairs in [self.pairs(name)]
                },
            },
        )

    # -- what changed

    def compare(self) -> None:
        section = self.recipe.evolution

        def work() -> None:
            found = compare(
                [self.scores(name) for name in self.checkpoints],
                names=list(self.checkpoints),
                sizes=section.sizes,
                seed=self.recipe.seed,
                n_bootstrap=section.resamples,
            )
            write_json(self.store.path("evolution.json"), found.to_dict())

        self.store.stage(
            "evolution",
            [section.model_dump(mode="json"), self.recipe.seed],
            work,
            after=[f"scores/{name}" for name in self.checkpoints],
            files=["evolution.json"],
        )

    def look_inside(self) -> None:
        section = self.recipe.internals
        if section is None:
            return
        last = list(self.checkpoints)[-1]

        def work() -> dict[str, list[float]]:
            pairs = self.pairs("evaluate")[: section.documents]
            found = internals(
                self.model(last), self.model("base"), pairs, batch_size=section.batch_size
            ).to_dict()
            write_json(self.store.path("internals.json"), found)
            importance: dict[str, list[float]] = found["importance"]
            return importance

        self.store.stage(
            "internals",
            section.model_dump(),
            work,
            after=["pairs", "checkpoints"],
            files=["internals.json"],
        )

    # -- where a LoRA should go

    def race_loras(self) -> None:
        section = self.recipe.lora
        if section is None:
            return
        last = list(self.checkpoints)[-1]
        edges = importance_from_circuit(self.circuit(last))
        importance: dict[str, list[float]] = self.store.results["internals"]
        inside = LayerImportance(section.criterion, tuple(importance[section.criterion]))
        arms = standard_arms(inside, edges, section.layers)
        settings = _lora_settings(self.recipe)
        assert settings is not None

        def work() -> None:
            result = bakeoff(
                resolve(self.recipe.model)[0],
                self.examples("train", section.examples),
                self.examples("test", section.held_out),
                arms,
                settings,
                section.seeds,
                self.store.path("lora"),
                rank=section.rank,
                device=self.recipe.device,
                progress=self.progress,
            )
            write_json(
                self.store.path("lora.json"),
                {
                    "bakeoff": result.to_dict(),
                    "importance": {**importance, "edges": list(edges.values)},
                    "chosen": {
                        arm.name: sorted(
                            {layer for run in result.of(arm.name) for layer in run.layers}
                        )
                        for arm in arms
                    },
                },
            )

        self.store.stage(
            "lora",
            [section.model_dump(mode="json"), self.recipe.model],
            work,
            after=["pairs", "internals", f"circuits/{last}"],
            files=["lora.json"],
        )

    def report(self) -> Path:
        return write_report(self.store.folder)
