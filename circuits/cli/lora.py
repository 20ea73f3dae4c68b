"""The verb `circuits lora`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli import options as use
from circuits.cli.flags import Without
from circuits.options.model import ModelOptions
from circuits.options.tuning import LoraOptions


def lora(
    *,
    model: Annotated[ModelOptions, Without("tokenizer", "device", *use.AsOnePlainModel.names)],
    circuit: Annotated[Path, typer.Option(help="circuit.json that `discover --size` wrote.")],
    out: use.Out = Path("lora"),
    adapter: LoraOptions,
) -> None:
    """Turn a circuit into a LoRA configuration.

    The layers with most of the circuit's |score| get an adapter; the configuration is tried on the
    model, then written as PEFT's adapter_config.json.

    Example: circuits lora --model newsroom-gpt2 --circuit scores/circuit.json --layers 2
    """
    from circuits.graph import Circuit
    from circuits.importance import importance_from_circuit
    from circuits.models import load_model
    from circuits.models.checkpoints import resolve
    from circuits.runtime.files import atomic_path
    from circuits.tuning.targets import adapted_layers, lora_config, trainable_parameters, wrap

    use.require_writable(out)
    use.silence_libraries()
    importance = importance_from_circuit(Circuit.load(circuit))
    network, _ = load_model(model.model, device="cpu")
    config = lora_config(importance, network, adapter.rank, k=adapter.layers)
    adapted = wrap(network, config)
    parameters, touched = trainable_parameters(adapted), adapted_layers(adapted)
    for layer, value in enumerate(importance.values):
        chosen = " <- chosen" if layer in touched else ""
        typer.echo(f"layer {layer:>3}: {value:.4f}{chosen}")
    typer.echo(f"{parameters} trainable parameters at rank {adapter.rank}")
    config.base_model_name_or_path = resolve(model.model)[0]
    with atomic_path(out / "adapter_config.json") as temporary:
        config.save_pretrained(str(temporary.parent))
    use.echo_outputs(out / "adapter_config.json")
