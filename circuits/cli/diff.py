"""The verb `circuits diff`."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.scored_model import load_scored
from circuits.cli.unique_suffixes import unique_suffixes

if TYPE_CHECKING:
    from circuits.models import HookedModel

_PAIRED = 3  # models up to which every pair is compared


def diff(
    model: Annotated[
        list[str],
        typer.Option(help="A fine-tuned model; repeat for a series of checkpoints, in order."),
    ],
    base: Annotated[str, typer.Option(help="The model that they are held against: the base.")],
    task: use.TaskName,
    out: use.Out = Path("model_diff"),
    lora: Annotated[
        str | None, typer.Option(help="A LoRA of the base to compare besides: its PEFT folder.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Edge scores of the first --model, kept --per-example.")
    ] = None,
    base_scores: Annotated[
        Path | None, typer.Option(help="The same for --base, on the same pairs.")
    ] = None,
    umap: Annotated[
        bool, typer.Option("--umap", help="Also UMAP of the hidden states (extra `umap`).")
    ] = False,
    data: use.Data = None,
    task_option: use.TaskOptions = None,
    skip_bad_rows: use.Skip = False,
    n: use.Number = None,
    split: Annotated[str | None, typer.Option(help="train, validation, test or all.")] = None,
    n_resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=100)] = 1000,
    batch_size: use.BatchSize = None,
    tokenizer: use.Tokenizer = None,
    device: use.Device = None,
    dtype: use.Dtype = "float32",
    seed: use.Seed = 0,
    quiet: use.Quiet = False,
) -> None:
    """Say how models differ inside.

    Attention (KL, entropy, roles of heads), hidden states, neurons, critical layers; on the clean
    prompts of the task. Up to three models are compared in all pairs, more with --base alone.
    Writes model_diff.json and model_diff.html. Stopped half-way, it leaves model_diff.partial
    there, and the same command goes on from it.

    Example: circuits diff --model runs/quickstart/checkpoints/step-200
    --base newsroom-gpt2 --task newsroom --out inside
    """
    from circuits.errors import CircuitsError
    from circuits.graph import EdgeScores, Provenance
    from circuits.model_diff import diff_models
    from circuits.model_diff.criteria import edge_change
    from circuits.model_diff.hidden import representation_trajectory, require_umap
    from circuits.report.inside import write_diff_page
    from circuits.runtime.files import write_json
    from circuits.runtime.resume import Pieces
    from tasks.text.key_positions import key_positions

    use.require_writable(out)
    if (scores is None) != (base_scores is None):
        raise CircuitsError("--scores and --base-scores go together: one file for each model")
    if umap:
        require_umap()
    edges = None
    made: dict[str, tuple[Path, Provenance]] = {}
    if scores is not None and base_scores is not None:
        found = [EdgeScores.load(path) for path in (scores, base_scores)]
        edges = edge_change(
            *found, names=(str(scores), str(base_scores)), n_resamples=n_resamples, seed=seed
        )
        files = zip((model[0], base), (scores, base_scores), found, strict=True)
        made = {source: (file, one.provenance) for source, file, one in files}

    def load(source: str) -> HookedModel:
        file, made_from = made.get(source, (None, Provenance()))
        return load_scored(source, device, dtype, file, made_from, tokenizer)

    chosen = use.load_task(task, data, task_option, skip=skip_bad_rows)
    reference = load(base)
    pairs = use.load_pairs(chosen, reference, n, split, seed)
    places = key_positions(reference.tokenizer, pairs)
    del reference  # two models are held at a time
    series = [*model, *([] if lora is None else [lora])]
    called = dict(zip([base, *series], unique_suffixes([base, *series]), strict=True))
    if lora is not None and "lora" not in called[lora].lower():
        called[lora] = f"LoRA {called[lora]}"
    couples = [(name, base) for name in series]
    if len(series) < _PAIRED:
        couples += [(later, earlier) for earlier, later in combinations(series, 2)]
    with Pieces(out / "model_diff.partial") as resume:
        comparisons = []
        for place, (one, other) in enumerate(couples):
            result = diff_models(
                load(one),
                load(other),
                pairs,
                names=(called[one], called[other]),
                key_positions=places,
                batch_size=batch_size,
                n_resamples=n_resamples,
                seed=seed,
                progress=not quiet,
                resume=resume,
            )
            comparisons.append(result.to_dict(edges if place == 0 else None))
            typer.echo(comparisons[-1]["paragraph"])
        checkpoints = {called[name]: partial(load, name) for name in (base, *model)}
        path = None
        if len(checkpoints) > 1:
            walked = representation_trajectory(
                checkpoints,
                pairs,
                batch_size=batch_size,
                progress=not quiet,
                resume=resume,
            )
            path = walked.to_dict(umap=umap, seed=seed)
        record = {
            "task": pairs.task,
            "split": pairs.split,
            "models": {name: source for source, name in called.items()},
            "comparisons": comparisons,
            "path": path,
        }
        write_json(out / "model_diff.json", record)
    page = write_diff_page(record, out / "model_diff.html")
    use.echo_outputs(out / "model_diff.json", page, *use.write_skipped(out, pairs.skipped))
