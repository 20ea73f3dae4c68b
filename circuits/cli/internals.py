"""The verb `circuits internals`."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from circuits.cli import options as use
from circuits.cli.names import told_apart
from circuits.cli.origin import load_scored

if TYPE_CHECKING:
    from circuits.models import HookedModel

_PAIRED = 3  # models up to which every pair is compared


def internals(
    model: Annotated[
        list[str],
        typer.Option(help="A fine-tuned model; repeat for a series of checkpoints, in order."),
    ],
    against: Annotated[str, typer.Option(help="The model that they are held against: the base.")],
    task: use.TaskName,
    out: use.Out = Path("internals"),
    lora: Annotated[
        str | None, typer.Option(help="A LoRA of the base to compare besides: its PEFT folder.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Edge scores of the first --model, kept --per-example.")
    ] = None,
    scores_against: Annotated[
        Path | None, typer.Option(help="The same for --against, on the same pairs.")
    ] = None,
    umap: Annotated[
        bool, typer.Option("--umap", help="Also UMAP of the hidden states (extra `umap`).")
    ] = False,
    data: use.Data = None,
    task_option: use.TaskOptions = None,
    skip_bad_rows: use.Skip = False,
    n: use.Number = None,
    split: Annotated[str | None, typer.Option(help="train, validation, test or all.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=100)] = 1000,
    batch_size: use.BatchSize = None,
    tokenizer: use.Tokenizer = None,
    device: use.Device = None,
    dtype: use.Dtype = "float32",
    seed: use.Seed = 0,
    quiet: use.Quiet = False,
) -> None:
    """Say how models differ inside.

    Attention (KL, entropy, roles of heads), hidden states, neurons, critical layers; on the clean
    prompts of the task. Up to three models are compared in all pairs, more with --against alone.
    Writes internals.json and internals.html. Stopped half-way, it leaves internals.unfinished
    there, and the same command goes on from it.

    Example: circuits internals --model runs/quickstart/checkpoints/step-200
    --against newsroom-gpt2 --task newsroom --out inside
    """
    from circuits.errors import CircuitsError
    from circuits.evolution import internals as compare
    from circuits.evolution.criteria import edge_change
    from circuits.evolution.hidden import hidden_path, require_umap
    from circuits.files import write_json
    from circuits.graph import EdgeScores
    from circuits.report.inside import write_internals_page
    from circuits.unfinished import Pieces
    from tasks.landmarks import landmarks

    use.require_writable(out)
    if (scores is None) != (scores_against is None):
        raise CircuitsError("--scores and --scores-against go together: one file for each model")
    if umap:
        require_umap()
    edges = None
    made: dict[str, tuple[Path, dict[str, Any]]] = {}
    if scores is not None and scores_against is not None:
        found = [EdgeScores.load(path) for path in (scores, scores_against)]
        edges = edge_change(
            *found, names=(str(scores), str(scores_against)), resamples=resamples, seed=seed
        )
        files = zip((model[0], against), (scores, scores_against), found, strict=True)
        made = {source: (file, one.details) for source, file, one in files}

    def load(source: str) -> HookedModel:
        file, details = made.get(source, (None, {}))
        return load_scored(source, device, dtype, file, details, tokenizer)

    chosen = use.load_task(task, data, task_option, skip=skip_bad_rows)
    base = load(against)
    pairs = use.load_pairs(chosen, base, n, split, seed)
    places = landmarks(base.tokenizer, pairs)
    del base  # two models are held at a time
    series = [*model, *([] if lora is None else [lora])]
    called = dict(zip([against, *series], told_apart([against, *series]), strict=True))
    if lora is not None and "lora" not in called[lora].lower():
        called[lora] = f"LoRA {called[lora]}"
    couples = [(name, against) for name in series]
    if len(series) < _PAIRED:
        couples += [(later, earlier) for earlier, later in combinations(series, 2)]
    with Pieces(out / "internals.unfinished") as unfinished:
        comparisons = []
        for place, (one, other) in enumerate(couples):
            result = compare(
                load(one),
                load(other),
                pairs,
                names=(called[one], called[other]),
                landmarks=places,
                batch_size=batch_size,
                n_bootstrap=resamples,
                seed=seed,
                progress=not quiet,
                unfinished=unfinished,
            )
            comparisons.append(result.to_dict(edges if place == 0 else None))
            typer.echo(comparisons[-1]["paragraph"])
        checkpoints = {called[name]: partial(load, name) for name in (against, *model)}
        path = None
        if len(checkpoints) > 1:
            walked = hidden_path(
                checkpoints,
                pairs,
                batch_size=batch_size,
                progress=not quiet,
                unfinished=unfinished,
            )
            path = walked.to_dict(umap=umap, seed=seed)
        record = {
            "task": pairs.task,
            "split": pairs.split,
            "models": {name: source for source, name in called.items()},
            "comparisons": comparisons,
            "path": path,
        }
        write_json(out / "internals.json", record)
    page = write_internals_page(record, out / "internals.html")
    use.wrote(out / "internals.json", page, *use.write_skipped(out, pairs.skipped))
