"""The stage that trains LoRAs on the layers that matter, by the circuit, and on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from circuits.graph import Circuit
from circuits.importance import (
    LayerImportance,
    importance_from_circuit,
    importance_of_maps,
)
from circuits.model_diff import ModelDiffs
from circuits.model_diff.diff import CRITERIA, EDGES
from circuits.options.declared import narrowed
from circuits.options.tuning import AdapterOptions, LoraComparisonOptions, LoraProtocol
from circuits.pipeline.context import RunContext
from circuits.pipeline.recipe import Recipe, plain
from circuits.pipeline.settings import lora_settings
from circuits.tuning.conditions import lora_targets
from circuits.tuning.lora_comparison import ComparedExamples, compare_lora_targets
from circuits.tuning.lora_targets import LoraTarget


def compare_loras(run: RunContext) -> None:
    """LoRAs on the layers that matter, on others, and on all, at equal size and steps."""
    section = run.recipe.lora
    if section is None:
        return
    importance = _importance(run)

    def work() -> None:
        number = section.validation
        comparison = compare_lora_targets(
            run.recipe.model,
            ComparedExamples(
                train=run.data.examples("train", section.examples),
                held_out=run.data.examples("test", section.held_out),
                validation=run.data.examples("validation", number) if number else None,
            ),
            conditions_of(section, importance, run.circuit(run.last)),
            protocol_of(run.recipe, words=run.data.words),
            run.store.path("lora"),
            device=run.recipe.device,
            options=run.options(),
        )
        comparison = comparison.model_copy(update={"importance": tuple(importance.values())})
        comparison.save(run.store.path("lora.json"))

    diffed = [] if run.recipe.model_diff is None else ["model_diff"]
    run.store.stage(
        "lora",
        [plain(replace(section, circuits=LoraComparisonOptions.circuits)), run.data.base],
        work,
        after=["pairs", *diffed, f"circuits/{run.last}"],
        files=["lora.json"],
    )


def conditions_of(
    section: LoraComparisonOptions, importance: Mapping[str, LayerImportance], circuit: Circuit
) -> tuple[LoraTarget, ...]:
    """What the section's conditions train, of a model with that circuit."""
    return lora_targets(
        section.conditions,
        importance,
        importance_of_maps(circuit, criterion=EDGES),
        section.layers or max(1, circuit.layout.n_layers // 2),
    )


def protocol_of(recipe: Recipe, *, words: str) -> LoraProtocol:
    """What the conditions of the recipe's comparison share; it has one."""
    section, settings = recipe.lora, lora_settings(recipe)
    assert section is not None and settings is not None
    return narrowed(
        section,
        LoraProtocol,
        training=settings,
        adapter=narrowed(section, AdapterOptions),
        words=words,
        tokenizer=recipe.tokenizer,
    )


def _importance(run: RunContext) -> dict[str, LayerImportance]:
    """Importance of layers by each criterion that the run computed; the circuit's edges last."""
    diffs = None
    if run.recipe.model_diff is not None:
        diffs = ModelDiffs.load(run.store.path("model_diff.json"))
    return importance_of(diffs, run.circuit(run.last))


def importance_of(diffs: ModelDiffs | None, circuit: Circuit) -> dict[str, LayerImportance]:
    """Importance of layers by each criterion of a diff of models, and by the circuit's edges."""
    importance: dict[str, LayerImportance] = {}
    if diffs is not None:
        importance = {name: diffs.comparisons[0].layer_importance(name) for name in CRITERIA}
    importance[EDGES] = importance_from_circuit(circuit, criterion=EDGES)
    return importance
