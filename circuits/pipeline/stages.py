"""A run from base model to report, stage by stage.

    pairs -> checkpoints -> quality, scores -> circuits -> evaluation
                                        \\-> evolution
             checkpoints -> internals -> lora (with circuits) -> report

Every stage is the package's public function on the recipe's settings; this file only connects them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from circuits.attribution import attribute
from circuits.evaluation import Questions, evaluate
from circuits.evolution import compare, cross_evaluate, internals
from circuits.evolution.hidden import hidden_path
from circuits.files import fingerprint, write_json
from circuits.graph import Circuit, EdgeScores, select
from circuits.models import HookedModel, load_model, series
from circuits.models.checkpoints import as_device, resolve
from circuits.pipeline.data import Data
from circuits.pipeline.quality import quality_intervals
from circuits.pipeline.recipe import Recipe
from circuits.pipeline.settings import attribution_of, check, finetune_settings, lora_settings
from circuits.pipeline.store import Store
from circuits.report import write_report
from circuits.tuning.arms import standard_arms
from circuits.tuning.bakeoff import bakeoff
from circuits.tuning.finetune import finetune
from circuits.tuning.importance import LayerImportance, importance_from_circuit
from circuits.tuning.rouge import evaluate_summaries
from circuits.unfinished import Unfinished
from tasks.landmarks import landmarks


def run(recipe: Recipe, folder: str | Path, *, progress: bool = True) -> Path:
    """Do everything that the recipe asks for, or what is left of it; returns the report's path."""
    check(recipe)
    with Store.open(folder, recipe) as store:
        return _Pipeline(recipe, store, Data(recipe, store), progress).run()


@dataclass
class _Pipeline:
    recipe: Recipe
    store: Store
    data: Data
    progress: bool

    def run(self) -> Path:
        self.data.make_pairs()
        self.make_checkpoints()
        self.measure_quality()
        for name in self.checkpoints:
            self.score(name)
            self.choose_circuit(name)
            self.evaluate(name)
        self.write_evaluation()
        self.compare()
        self.cross_evaluate()
        self.look_inside()
        self.race_loras()
        self.store.write_environment(str(as_device(self.recipe.device)))
        return self.report()

    # -- checkpoints

    def make_checkpoints(self) -> None:
        section = self.recipe.finetune
        if section is None:
            given = {
                name: fingerprint(place)
                for name, place in self.checkpoints.items()
                if name != "base"
            }
            self.store.stage("checkpoints", [self.data.base, given], lambda: None)
            return
        folder = self.store.path("checkpoints")
        settings = finetune_settings(self.recipe)
        assert settings is not None

        def work() -> list[int]:
            model, _ = load_model(self.recipe.model, device=self.recipe.device)
            result = finetune(
                model,
                self.data.examples("train", section.examples),
                folder,
                settings=settings,
                validation=self.data.examples("validation", section.validation),
                tokenizer=self.data.tokenizer,
                progress=self.progress,
            )
            return list(result.checkpoints)

        self.store.stage(
            "checkpoints",
            [self.data.base, section.model_dump(mode="json"), self.recipe.seed],
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
        if n is None or self.data.trainable is None:
            return
        examples = self.data.examples("test", n)

        def work() -> dict[str, Any]:
            found = {}
            for name in self.checkpoints:
                model, _ = load_model(
                    self.checkpoints[name], device=self.recipe.device, dtype=self.recipe.dtype
                )
                scores = evaluate_summaries(model, self.data.tokenizer, examples)
                found[name] = {
                    **scores.means,
                    "n": len(scores),
                    "intervals": quality_intervals(scores, seed=self.recipe.seed),
                }
            return found

        self.store.stage("quality", [n, self.recipe.seed], work, after=["pairs", "checkpoints"])

    # -- circuits

    def score(self, name: str) -> None:
        section = self.recipe.attribution
        chosen = attribution_of(self.recipe)

        def work() -> None:
            so_far = self.store.path(".stages", f"scores-{name}.unfinished")
            with Unfinished(so_far, replace=True) as unfinished:
                attribute(
                    self.model(name),
                    self.data.pairs("score"),
                    chosen,
                    metric=section.metric,
                    batch_size=section.batch_size,
                    per_example=True,
                    progress=self.progress,
                    unfinished=unfinished,
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
            circuit = select(
                scores,
                edges=edges,
                rule=section.rule,
                ranking=section.ranking,
                positive=section.positive,
            )
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
        """All that is said of one checkpoint's circuit."""
        section = self.recipe.evaluation

        def work() -> dict[str, Any]:
            return evaluate(
                self.model(name),
                self.scores(name),
                self.circuit(name),
                self.data.pairs("evaluate"),
                conditions={one: self.data.pairs(one) for one in self.data.conditions},
                questions=Questions(
                    minimality=section.minimality,
                    minimality_controls=section.minimality_controls,
                    epsilon=section.epsilon,
                    completeness=section.completeness,
                    completeness_sets=section.completeness_sets,
                    stability=section.stability,
                ),
                metric=self.recipe.attribution.metric,
                replacement=section.replacement,
                batch_size=section.batch_size,
                seed=self.recipe.seed,
                progress=self.progress,
            )

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
                    for name in ("score", "evaluate", *self.data.conditions)
                    for pairs in [self.data.pairs(name)]
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
            [list(section.sizes), section.resamples, self.recipe.seed],
            work,
            after=[f"scores/{name}" for name in self.checkpoints],
            files=["evolution.json"],
        )

    def cross_evaluate(self) -> None:
        """Every checkpoint's circuit on every checkpoint."""
        section = self.recipe.evolution
        if section.crossing is None:
            return
        pairs = self.data.pairs("evaluate")[: section.crossing]

        def work() -> None:
            found = cross_evaluate(
                {name: partial(self.model, name) for name in self.checkpoints},
                {name: self.circuit(name) for name in self.checkpoints},
                pairs,
                metric=self.recipe.attribution.metric,
                batch_size=self.recipe.evaluation.batch_size,
                resamples=section.resamples,
                seed=self.recipe.seed,
                progress=self.progress,
            )
            write_json(self.store.path("crossing.json"), found.to_dict())

        self.store.stage(
            "crossing",
            [section.crossing, section.resamples, self.recipe.seed],
            work,
            after=["pairs", *(f"circuits/{name}" for name in self.checkpoints)],
            files=["crossing.json"],
        )

    def look_inside(self) -> None:
        """The base against the last checkpoint, and hidden states over all of them.

        On the pairs for scoring: the LoRAs that are put where this points are judged on others.
        """
        section = self.recipe.internals
        if section is None:
            return
        last = list(self.checkpoints)[-1]

        def work() -> dict[str, list[float]]:
            pairs = self.data.pairs("score")[: section.documents]
            found = internals(
                self.model(last),
                self.model("base"),
                pairs,
                names=(last, "base"),
                landmarks=landmarks(self.data.tokenizer, pairs),
                batch_size=section.batch_size,
                seed=self.recipe.seed,
                progress=self.progress,
            ).to_dict()
            path = hidden_path(
                {name: partial(self.model, name) for name in self.checkpoints},
                pairs,
                batch_size=section.batch_size,
                progress=self.progress,
            )
            record = {**found, "split": pairs.split, "path": path.to_dict()}
            write_json(self.store.path("internals.json"), record)
            importance: dict[str, list[float]] = found["importance"]
            return importance

        self.store.stage(
            "internals",
            [section.model_dump(), self.recipe.seed],
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
        settings = lora_settings(self.recipe)
        assert settings is not None

        def work() -> None:
            result = bakeoff(
                resolve(self.recipe.model)[0],
                self.data.examples("train", section.examples),
                self.data.examples("test", section.held_out),
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
            [section.model_dump(mode="json"), self.data.base],
            work,
            after=["pairs", "internals", f"circuits/{last}"],
            files=["lora.json"],
        )

    def report(self) -> Path:
        return write_report(self.store.folder)
