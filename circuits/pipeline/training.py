"""The stages that make a run's checkpoints and measure what they write."""

from __future__ import annotations

from functools import partial

from circuits.models import load_model
from circuits.pipeline.context import BASE, RunContext
from circuits.pipeline.quality import summary_quality
from circuits.pipeline.recipe import plain
from circuits.pipeline.settings import finetune_settings
from circuits.runtime.files import fingerprint
from circuits.runtime.resume import Pieces
from circuits.tuning.finetune import finetune
from circuits.tuning.rouge import evaluate_summaries


def make_checkpoints(run: RunContext) -> None:
    """Fine-tune the base, or take the checkpoints that are there."""
    section = run.recipe.finetune
    if section is None:
        fingerprints = {
            name: fingerprint(path) for name, path in run.checkpoints.items() if name != BASE
        }
        run.store.stage("checkpoints", [run.data.base, fingerprints], lambda: None)
        return
    folder = run.store.path("checkpoints")
    settings = finetune_settings(run.recipe)
    assert settings is not None

    def work() -> list[int]:
        model, _ = load_model(run.recipe.model, device=run.recipe.device)
        result = finetune(
            model,
            run.data.examples("train", section.examples),
            folder,
            settings=settings,
            validation=run.data.examples("validation", section.validation),
            tokenizer=run.data.tokenizer,
            progress=run.progress,
        )
        return list(result.checkpoints)

    run.store.stage(
        "checkpoints",
        [run.data.base, plain(section), run.recipe.seed],
        work,
        after=["pairs"],
        files=["checkpoints/training_log.json"],
    )


def measure_quality(run: RunContext) -> None:
    """ROUGE and loss of every checkpoint on held-out examples."""
    section = run.recipe.evaluation.quality
    if section is None or run.data.trainable is None:
        return
    n = section.n_examples
    examples = run.data.examples("test", n)

    def measured(name: str) -> dict[str, object]:
        model = run.model(name).hf
        scores = evaluate_summaries(model, run.data.tokenizer, examples, words=run.data.words)
        return summary_quality(scores, seed=run.recipe.seed).model_dump(mode="json")

    inputs = [n, run.recipe.seed]

    def work(resume: Pieces) -> dict[str, object]:
        key = [*inputs, run.store.keys["pairs"], run.store.keys["checkpoints"]]
        return {
            name: resume.value({"of": name, "key": key}, partial(measured, name))
            for name in run.checkpoints
        }

    run.store.stage_in_pieces("quality", inputs, work, after=["pairs", "checkpoints"])
