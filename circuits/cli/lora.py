"""The verb `circuits lora`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from circuits.cli import options as use
from circuits.cli.flags import Without
from circuits.errors import CircuitsError
from circuits.options.model import ModelOptions
from circuits.options.tuning import LoraOptions


def lora(
    *,
    model: Annotated[ModelOptions, Without("tokenizer", "device", *use.AsOnePlainModel.names)],
    circuit: Annotated[Path, typer.Option(help="circuit.json that `discover --size` wrote.")],
    modules: Annotated[
        bool,
        typer.Option(
            help="Adapt linear maps by how much of the circuit runs through them, in any layer, at "
            "the parameters of a LoRA of --rank on all layers."
        ),
    ] = False,
    out: use.Out = Path("lora"),
    adapter: LoraOptions,
) -> None:
    """Turn a circuit into a LoRA configuration.

    The layers with most of the circuit's |score| get an adapter, or with --modules the maps; the
    configuration is tried on the model, then written as PEFT's adapter_config.json.

    Example: circuits lora --model newsroom-gpt2 --circuit scores/circuit.json --layers 2
    """
    from circuits.format import span
    from circuits.graph import Circuit
    from circuits.importance import importance_from_circuit, importance_of_maps
    from circuits.models import load_model
    from circuits.models.checkpoints import resolve
    from circuits.options.declared import narrowed
    from circuits.options.tuning import AdapterOptions
    from circuits.runtime.files import atomic_path
    from circuits.tuning.targets import (
        adapted_layers,
        adapter_ranks,
        lora_config,
        trainable_parameters,
        wrap,
    )

    use.require_writable(out)
    use.silence_libraries()
    if modules and adapter.layers is not None:
        raise CircuitsError("--layers chooses whole layers; leave it out with --modules")
    loaded_circuit = Circuit.load(circuit)
    importance = importance_from_circuit(loaded_circuit)
    network, _ = load_model(model.model, device="cpu")
    form = asdict(narrowed(adapter, AdapterOptions))
    config = (
        lora_config(importance_of_maps(loaded_circuit), network, adapter.rank, **form)
        if modules
        else lora_config(importance, network, adapter.rank, k=adapter.layers, **form)
    )
    adapted = wrap(network, config)
    parameters, touched = trainable_parameters(adapted), adapted_layers(adapted)
    for layer, value in enumerate(importance.values):
        mark = " <- chosen" if layer in touched else ""
        typer.echo(f"layer {layer:>3}: {value:.4f}{mark}")
    if modules:
        for name, rank in adapter_ranks(adapted).items():
            typer.echo(f"{name}: rank {rank}")
    ranks = adapter_ranks(adapted).values()
    typer.echo(f"{parameters} trainable parameters at rank {span(min(ranks), max(ranks))}")
    config.base_model_name_or_path = resolve(model.model)[0]
    with atomic_path(out / "adapter_config.json") as temporary:
        config.save_pretrained(str(temporary.parent))
    use.echo_outputs(out / "adapter_config.json")
