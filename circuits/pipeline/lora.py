"""The stage that trains LoRAs on the layers that matter, by the circuit, and on others."""

from __future__ import annotations

from circuits.importance import LayerImportance, importance_from_circuit
from circuits.model_diff import ModelDiffs
from circuits.model_diff.diff import CRITERIA, EDGES
from circuits.options.tuning import LoraComparisonOptions, LoraProtocol
from circuits.pipeline.context import RunContext
from circuits.pipeline.recipe import plain
from circuits.pipeline.settings import lora_settings
from circuits.tuning.lora_comparison import compare_lora_targets
from circuits.tuning.lora_targets import LoraTarget, standard_lora_targets


def compare_loras(run: RunContext) -> None:
    """LoRAs on the layers that matter, on others, and on all, at equal size and steps."""
    section, settings = run.recipe.lora, lora_settings(run.recipe)
    if section is None or settings is None:
        return
    importance = _importance(run)
    targets = _targets(section, importance)
    protocol = LoraProtocol(
        training=settings,
        seeds=section.seeds,
        rank=section.rank,
        words=run.data.words,
        tokenizer=run.recipe.tokenizer,
    )

    def work() -> None:
        found = compare_lora_targets(
            run.recipe.model,
            run.data.examples("train", section.examples),
            run.data.examples("test", section.held_out),
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


def _targets(
    section: LoraComparisonOptions, importance: dict[str, LayerImportance]
) -> tuple[LoraTarget, ...]:
    """The conditions; the circuit has one of its own where the targeted one is not by it."""
    circuit = None if section.criterion == EDGES else importance[EDGES]
    layers = section.layers or max(1, len(importance[EDGES].values) // 2)
    return standard_lora_targets(importance[section.criterion], layers, circuit)
