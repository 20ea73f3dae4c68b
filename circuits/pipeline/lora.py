"""The stage that trains LoRAs on the layers that matter, by the circuit, and on others."""

from __future__ import annotations

from circuits.importance import (
    LayerImportance,
    importance_from_circuit,
    importance_of_maps,
)
from circuits.model_diff import ModelDiffs
from circuits.model_diff.diff import CRITERIA, EDGES
from circuits.options.declared import narrowed
from circuits.options.tuning import AdapterOptions, LoraProtocol
from circuits.pipeline.context import RunContext
from circuits.pipeline.recipe import plain
from circuits.pipeline.settings import lora_settings
from circuits.tuning.conditions import lora_targets
from circuits.tuning.lora_comparison import ComparedExamples, compare_lora_targets


def compare_loras(run: RunContext) -> None:
    """LoRAs on the layers that matter, on others, and on all, at equal size and steps."""
    section, settings = run.recipe.lora, lora_settings(run.recipe)
    if section is None or settings is None:
        return
    importance, circuit = _importance(run), run.circuit(run.last)
    targets = lora_targets(
        section.conditions,
        importance,
        importance_of_maps(circuit, criterion=EDGES),
        section.layers or max(1, circuit.layout.n_layers // 2),
    )
    protocol = narrowed(
        section,
        LoraProtocol,
        training=settings,
        adapter=narrowed(section, AdapterOptions),
        words=run.data.words,
        tokenizer=run.recipe.tokenizer,
    )

    def work() -> None:
        number = section.validation
        found = compare_lora_targets(
            run.recipe.model,
            ComparedExamples(
                train=run.data.examples("train", section.examples),
                held_out=run.data.examples("test", section.held_out),
                validation=run.data.examples("validation", number) if number else None,
            ),
            targets,
            protocol,
            run.store.path("lora"),
            device=run.recipe.device,
            options=run.options(),
        )
        found = found.model_copy(update={"importance": tuple(importance.values())})
        found.save(run.store.path("lora.json"))

    diffed = [] if run.recipe.model_diff is None else ["model_diff"]
    run.store.stage(
        "lora",
        [plain(section), run.data.base],
        work,
        after=["pairs", *diffed, f"circuits/{run.last}"],
        files=["lora.json"],
    )


def _importance(run: RunContext) -> dict[str, LayerImportance]:
    """Importance of layers by each criterion that the run computed; the circuit's edges last."""
    importance: dict[str, LayerImportance] = {}
    if run.recipe.model_diff is not None:
        (diff,) = ModelDiffs.load(run.store.path("model_diff.json")).comparisons
        importance = {name: diff.layer_importance(name) for name in CRITERIA}
    importance[EDGES] = importance_from_circuit(run.circuit(run.last), criterion=EDGES)
    return importance
