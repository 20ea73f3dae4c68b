"""The verb `circuits learn`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.recorded import recorded_model, recorded_task
from circuits.cli.scored_model import load_scored
from circuits.options.attribution import MetricOptions
from circuits.options.masks import MaskConfig
from circuits.options.model import LoadOptions
from tasks.named_splits import Split

if TYPE_CHECKING:
    from circuits.masks import LearnedMask


def learn(
    *,
    scores: Annotated[
        Path, typer.Option(help="Folder or file that `discover` wrote: where the mask begins.")
    ],
    out: use.Out = Path("learned"),
    model: use.ScoredModel = None,
    loading: LoadOptions,
    task: use.ScoredTask = None,
    source: use.DataOptions,
    split: Annotated[
        Split | None,
        typer.Option(help="Part of the examples (default: the one that was scored on)."),
    ] = None,
    config: MaskConfig,
    judged: MetricOptions,
    run: use.Run,
    quiet: use.Quiet = False,
) -> None:
    """Learn a circuit: train a gate on every edge, node or neuron.

    The gates are of what the scores are of. They begin where the scores put them, and are trained
    until those of --size that stay open behave like the whole model. Writes scores.safetensors and
    scores.json (the probability that a gate is open; of nodes and neurons node_scores.* and
    neuron_scores.*), circuit.json, mask.json, and with --ablation optimal constants.safetensors. By
    default it learns on as many pairs of the same split as were scored. Stopped half-way, it leaves
    mask.partial there, and the same command continues.

    Example: circuits learn --scores scores --size 24 --out learned
    """
    from circuits.graph import load_scores
    from circuits.masks import learn_mask
    from circuits.runtime.resume import PartialResults

    use.require_writable(out)
    loaded_scores = load_scores(scores)
    made_from = loaded_scores.provenance
    loaded = use.load_task(*recorded_task(task, source, made_from, "--task"))
    hooked = load_scored(*recorded_model(model, loading, made_from, "--model"), scores, made_from)
    data = made_from.data
    pairs = use.load_pairs(
        loaded,
        hooked,
        source.n or (None if data is None else data.n),
        split or use.split_of(made_from),
        run.seed,
    )
    use.check_task(hooked, pairs, metric=judged.metric, required=judged.require_accuracy, run=run)
    options = use.running(run, quiet)
    with PartialResults(out / "mask.partial") as resume:
        learned = learn_mask(
            hooked,
            loaded_scores,
            pairs,
            config,
            metric=judged.metric,
            options=options,
            resume=resume,
        )
        files = learned.save(out)
    _show(learned, len(pairs))
    use.echo_outputs(*files, *use.write_skipped(out, pairs.skipped))


def _show(learned: LearnedMask, n: int) -> None:
    record = learned.record
    unit = {"kl-divergence": "KL divergence in nats"}.get(record.config.objective, "squared gap")
    typer.echo(
        f"{n} pairs, {record.config.epochs} epochs; {unit}: {record.losses[0]:.4f} in the first, "
        f"{record.losses[-1]:.4f} in the last"
    )
    typer.echo(
        f"{record.sizes[0]:.0f} {record.level}s open on average, then {record.sizes[-1]:.0f}; the "
        f"circuit has {len(learned.circuit)}"
    )
    if record.sizes[-1] > 1.1 * record.wanted[-1]:
        typer.echo(
            f"warning: {record.sizes[-1]:.0f} gates are still open where {record.wanted[-1]:.0f} "
            "may be; take more --epochs, or a higher --size-rate",
            err=True,
        )
