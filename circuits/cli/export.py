"""The verb `circuits export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from circuits.cli import options as use
from circuits.options.model import ModelOptions

Exported = Literal["zero", "mean"]


def export(
    model: Annotated[ModelOptions, use.AsOnePlainModel],
    source: use.TaskOptions,
    circuit: Annotated[
        Path, typer.Option(help="Circuit of nodes or neurons, that `circuits select` wrote.")
    ],
    ablation: Annotated[
        Exported, typer.Option(help="What stands in for what is left out.")
    ] = "zero",
    out: use.Out = Path("ablated"),
    *,
    run: use.Run,
) -> None:
    """Write a model on a circuit as a plain Hugging Face folder.

    What the circuit leaves out is taken out of the weights, so that other tools generate with it
    and measure it. Its logits are compared with the executor's on pairs of the task before anything
    is written; means are taken over these pairs. Circuits of edges cannot be written into weights.

    Example: circuits export --model newsroom-gpt2 --task newsroom --circuit nodes.json
    """
    from circuits.export import export_ablated
    from circuits.graph.levels import load_circuit
    from circuits.intervention import MeanActivations

    use.require_writable(out)
    loaded_circuit = load_circuit(circuit)
    loaded = use.load_task(source.task, source)
    hooked = use.load_hooked(model.model, model)
    pairs = use.load_pairs(loaded, hooked, source.n, source.split, run.seed)
    means = None
    if ablation == "mean":
        means = MeanActivations.of(hooked, pairs, neurons=loaded_circuit.level == "neuron")
    exported = export_ablated(hooked, loaded_circuit, out, pairs, means=means)
    typer.echo(
        f"{exported.kept} of {exported.of} {exported.level}s kept, {exported.ablation} for the "
        f"others; logits as the executor's to {exported.difference:.1e} of the largest, on "
        f"{exported.n_checked} pairs"
    )
    use.echo_outputs(out)
