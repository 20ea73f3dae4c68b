"""The verb `circuits diff`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.scored_model import load_scored
from circuits.cli.unique_suffixes import unique_suffixes
from circuits.options.comparison import ResampleOptions
from circuits.options.model import LoadOptions

if TYPE_CHECKING:
    from circuits.model_diff import ModelDiff
    from circuits.models import HookedModel

_PAIRED = 3  # models up to which every pair is compared


def diff(
    *,
    model: Annotated[
        list[str],
        typer.Option(help="A fine-tuned model; repeat for a series of checkpoints, in order."),
    ],
    base: Annotated[str, typer.Option(help="The base: the model that they are compared with.")],
    source: use.TaskOptions,
    out: use.Out = Path("model_diff"),
    lora: Annotated[
        str | None, typer.Option(help="A LoRA of the base to compare as well: its PEFT folder.")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Edge scores of the first --model, with those of single examples: a "
            "fourth criterion of layers."
        ),
    ] = None,
    base_scores: Annotated[
        Path | None, typer.Option(help="The same for --base, on the same pairs.")
    ] = None,
    umap: Annotated[
        bool, typer.Option("--umap", help="Also show the hidden states by UMAP (extra `umap`).")
    ] = False,
    loading: LoadOptions,
    resampled: ResampleOptions,
    run: use.Run,
    engine: use.Engine,
    quiet: use.Quiet = False,
) -> None:
    """Show how models differ inside.

    Compares attention (KL, entropy, head types), hidden states, neurons and critical layers, on the
    clean prompts of the task. Up to three models are compared in all pairs, more with --base only.
    Writes model_diff.json and model_diff.html. If it is stopped, it leaves model_diff.partial
    there, and the same command continues from it.

    Example: circuits diff --model runs/quickstart/checkpoints/step-200
    --base newsroom-gpt2 --task newsroom --out model_diff
    """
    from circuits.errors import CircuitsError
    from circuits.graph import EdgeScores, Provenance
    from circuits.importance import edge_change
    from circuits.model_diff import ModelDiffs, diff_models
    from circuits.model_diff.hidden import representation_trajectory, require_umap
    from circuits.report.model_diff_page import write_model_diff_page
    from circuits.report.narrative_diff import summary
    from circuits.runtime.resume import Pieces
    from tasks.text.key_positions import key_positions

    use.require_writable(out)
    if (scores is None) != (base_scores is None):
        raise CircuitsError("--scores and --base-scores go together: one file for each model")
    if umap:
        require_umap()
    edges = None
    scored: dict[str, tuple[Path, Provenance]] = {}
    if scores is not None and base_scores is not None:
        edge_scores = [EdgeScores.load(path) for path in (scores, base_scores)]
        edges = edge_change(
            *edge_scores,
            names=(str(scores), str(base_scores)),
            n_resamples=resampled.n_resamples,
            seed=run.seed,
        )
        files = zip((model[0], base), (scores, base_scores), edge_scores, strict=True)
        scored = {
            model_id: (file, model_scores.provenance) for model_id, file, model_scores in files
        }

    def load(model_id: str) -> HookedModel:
        file, provenance = scored.get(model_id, (None, Provenance()))
        return load_scored(model_id, loading, file, provenance)

    options = replace(use.running(run, quiet), engine=use.engine_of(engine))
    loaded_task = use.load_task(source.task, source)
    base_model = load(base)
    pairs = use.load_pairs(loaded_task, base_model, source.n, source.split, run.seed)
    positions = key_positions(base_model.tokenizer, pairs)
    del base_model  # two models are held at a time
    sources = [*model, *([] if lora is None else [lora])]
    names = dict(zip([base, *sources], unique_suffixes([base, *sources]), strict=True))
    if lora is not None and "lora" not in names[lora].lower():
        names[lora] = f"LoRA {names[lora]}"
    couples = [(model_id, base) for model_id in sources]
    if len(sources) < _PAIRED:
        couples += [(later, earlier) for earlier, later in combinations(sources, 2)]
    with Pieces(out / "model_diff.partial") as resume:
        comparisons: list[ModelDiff] = []
        for tuned, original in couples:
            comparison = diff_models(
                load(tuned),
                load(original),
                pairs,
                key_positions=positions,
                edges=None if comparisons else edges,
                n_resamples=resampled.n_resamples,
                options=options,
                resume=resume,
            ).renamed(names[tuned], names[original])
            comparisons.append(comparison)
            typer.echo(summary(comparison))
        checkpoints = {names[model_id]: partial(load, model_id) for model_id in (base, *model)}
        trajectory = None
        if len(checkpoints) > 1:
            trajectory = representation_trajectory(
                checkpoints, pairs, umap=umap, options=options, resume=resume
            )
        diffs = ModelDiffs(
            task=pairs.task,
            split=pairs.split,
            models={name: model_id for model_id, name in names.items()},
            comparisons=tuple(comparisons),
            trajectory=trajectory,
        )
        file = diffs.save(out / "model_diff.json")
    page = write_model_diff_page(diffs, out / "model_diff.html")
    use.echo_outputs(file, page, *use.write_skipped(out, pairs.skipped))
