"""The verb `circuits convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuits.cli import options as use


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Scores or a circuit of this package, or a graph file of EAP-IG or MIB."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="A .json or .pt for EAP-IG and MIB; a folder for this package.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Its config.json gives the width and the KV heads; no weights are read."),
    ] = None,
    d_model: Annotated[
        int | None, typer.Option("--d-model", help="The width, where there is no --model.", min=1)
    ] = None,
    kv_heads: Annotated[
        int | None,
        typer.Option(
            "--kv-heads", help="KV heads, where there is no --model; unless told, ungrouped.", min=1
        ),
    ] = None,
    circuit: Annotated[
        Path | None, typer.Option(help="A circuit.json to write into the same file.")
    ] = None,
    gradients_of: Annotated[
        str,
        typer.Option(help="What a file's scores are the gradients of: loss, as MIB's, or metric."),
    ] = "loss",
    copies: Annotated[
        str,
        typer.Option(
            help="What the k and v copies of one KV head come to: sum, or mean, as the shares of "
            "information flow routes."
        ),
    ] = "sum",
) -> None:
    """Convert to and from the graph files of EAP-IG and MIB.

    Towards EAP-IG: --out is a .json or a .pt. From it: --out is a folder, which gets
    scores.safetensors and circuit.json, whichever the file holds.

    Example: circuits convert scores --model gpt2 --circuit scores/circuit.json --out graph.json
    """
    from circuits.errors import CircuitsError

    theirs = out.suffix in (".json", ".pt")
    use.require_writable(out, file=theirs)
    if theirs:
        if model is None and d_model is None:
            raise CircuitsError("their files hold the model's width: give --model or --d-model")
        _write(source, out, d_model or _sizes(str(model))[0], circuit)
        return
    if circuit is not None:
        raise CircuitsError("--circuit goes with an --out of .json or .pt")
    _read(source, out, kv_heads or (_sizes(model)[1] if model else None), gradients_of, copies)


def _write(source: Path, out: Path, d_model: int, circuit: Path | None) -> None:
    from circuits.graph import Circuit, EdgeScores
    from circuits.graph.interchange import ungrouped_share, write_graph

    is_circuit = source.suffix == ".json"
    scores = None if is_circuit else EdgeScores.load(source)
    chosen = source if is_circuit else circuit
    kept = None if chosen is None else Circuit.load(chosen)
    use.wrote(write_graph(out, d_model=d_model, scores=scores, circuit=kept))
    if kept is not None:
        typer.echo(f"{ungrouped_share(kept):.2%} of the edges, as MIB counts them")


def _read(source: Path, out: Path, kv_heads: int | None, gradients_of: str, copies: str) -> None:
    from circuits.errors import CircuitsError
    from circuits.graph.interchange import GraphFile

    graph = GraphFile.read(source)
    if not graph.has_scores and not graph.has_circuit:
        raise CircuitsError(f"{source}: no edge has a score and none is in the graph")
    kept = None
    if graph.has_circuit:
        try:
            kept = graph.circuit(n_kv_heads=kv_heads)
        except CircuitsError as error:
            if not graph.has_scores:
                raise
            typer.echo(f"note: its scores only; {error}", err=True)
    if graph.has_scores:
        scores = graph.scores(n_kv_heads=kv_heads, of=gradients_of, copies=copies)
        use.wrote(scores.save(out), out / "scores.json")
    if kept is not None:
        kept.save(out / "circuit.json")
        use.wrote(out / "circuit.json")


def _sizes(model: str) -> tuple[int, int]:
    """The model's width and its number of KV heads, from its configuration."""
    from circuits.models.checkpoints import load_config

    config = load_config(model).get_text_config()
    heads = int(config.num_attention_heads)
    return int(config.hidden_size), int(getattr(config, "num_key_value_heads", None) or heads)
