"""The stage that trains LoRAs where the circuit and the internals point, and elsewhere."""

from __future__ import annotations

from circuits.importance import LayerImportance, importance_from_circuit
from circuits.pipeline.context import RunContext
from circuits.pipeline.settings import lora_settings
from circuits.runtime.files import write_json
from circuits.tuning.lora_comparison import compare_lora_targets
from circuits.tuning.lora_targets import standard_lora_targets


def compare_loras(run: RunContext) -> None:
    """LoRAs on the layers that matter, on others, and on all, at equal size and steps."""
    section = run.recipe.lora
    if section is None:
        return
    edges = importance_from_circuit(run.circuit(run.last))
    importance: dict[str, list[float]] = run.store.results["model_diff"]
    inside = LayerImportance(section.criterion, tuple(importance[section.criterion]))
    lora_targets = standard_lora_targets(inside, edges, section.layers)
    settings = lora_settings(run.recipe)
    assert settings is not None

    def work() -> None:
        result = compare_lora_targets(
            run.recipe.model,
            run.data.examples("train", section.examples),
            run.data.examples("test", section.held_out),
            lora_targets,
            settings,
            section.seeds,
            run.store.path("lora"),
            rank=section.rank,
            words=run.data.words,
            tokenizer=run.recipe.tokenizer,
            device=run.recipe.device,
            progress=run.progress,
        )
        write_json(
            run.store.path("lora.json"),
            {
                "bakeoff": result.to_dict(),
                "importance": {**importance, "edges": list(edges.values)},
                "chosen": {
                    arm.name: sorted({layer for one in result.of(arm.name) for layer in one.layers})
                    for arm in lora_targets
                },
            },
        )

    run.store.stage(
        "lora",
        [section.model_dump(mode="json"), run.data.base],
        work,
        after=["pairs", "model_diff", f"circuits/{run.last}"],
        files=["lora.json"],
    )
