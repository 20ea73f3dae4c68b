"""The stages that ask whether LoRAs build the circuit that full fine-tuning builds.

Each LoRA is scored and gets its circuit as a checkpoint does, on the same pairs and by the same
settings; then it is held against the last checkpoint, with the base as the control.
"""

from __future__ import annotations

from functools import partial

from circuits.options.run import RunOptions
from circuits.pipeline import comparison, discovery
from circuits.pipeline.context import BASE, RunContext
from circuits.runtime.resume import Pieces
from circuits.tuning.adapter_circuits import compare_adapter_circuits


def compare_lora_circuits(run: RunContext) -> None:
    """The circuits of LoRAs beside the last checkpoint's."""
    if not run.adapters:
        return
    for name in run.adapters:
        discovery.score(run, name, after=["pairs", "lora"])
        discovery.choose_circuit(run, name)
    names, section = [BASE, *run.adapters, run.last], run.recipe.comparison

    def work(resume: Pieces) -> None:
        compare_adapter_circuits(
            {name: run.scores(name) for name in names},
            {name: partial(run.model, name) for name in names},
            run.data.pairs("evaluate")[: section.cross_evaluation],
            base=BASE,
            tuned=run.last,
            settings=section,
            options=RunOptions(
                seed=run.recipe.seed, progress=run.progress, engine=run.recipe.engine
            ),
            resume=resume,
        ).save(run.store.path("lora_circuits.json"))

    run.store.stage_in_pieces(
        "lora_circuits",
        [list(section.sizes), section.n_resamples, section.cross_evaluation, run.recipe.seed],
        work,
        after=["pairs", *(f"scores/{name}" for name in names)],
        files=["lora_circuits.json"],
    )
    comparison.cross_circuits(run, names, "lora_cross_evaluation")
