"""The verb `circuits convert`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.options.choices import GraphForm, NetworkForm
from circuits.options.exchange import ImportOptions

if TYPE_CHECKING:
    from circuits.graph import Circuit, EdgeScores, Layout


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Scores or a circuit of this package, or a graph file of EAP-IG or MIB."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="A .json or .pt for EAP-IG and MIB; a .graphml, .gexf, .gml or .dot; a folder for "
            "this package."
        ),
    ],
    to: Annotated[
        GraphForm | None,
        typer.Option(
            help="The format, where the ending does not say; json is networkx's node-link JSON."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Its config.json gives the width and the KV heads; no weights are read."),
    ] = None,
    d_model: Annotated[
        int | None, typer.Option("--d-model", help="The width, where there is no --model.", min=1)
    ] = None,
    circuit: Annotated[
        Path | None, typer.Option(help="A circuit.json to write into the same file.")
    ] = None,
    *,
    how: ImportOptions,
) -> None:
    """Convert scores and circuits to and from other tools' files.

    Graph files of EAP-IG and MIB are read and written, those of graph tools are written.

    Towards EAP-IG: --out is a .json or a .pt. From it: --out is a folder, which gets
    scores.safetensors and circuit.json, whichever the file holds, and node_scores.safetensors (in
    nodes/ beside scores of edges). Circuits and scores of single dimensions of a node's output
    (EAP-IG's neurons) are refused: this package's neurons are others.
    Towards Gephi, Cytoscape, Graphviz and networkx: edges, nodes or neurons with their scores, and
    where to draw them (docs/exchange.md).

    Example: circuits convert scores --model gpt2 --circuit scores/circuit.json --out graph.json

    Example: circuits convert scores/circuit.json --out circuit.graphml
    """
    from circuits.errors import CircuitsError

    form = to or _FORM_OF.get(out.suffix.lower())
    use.require_writable(out, file=form is not None)
    if form is not None and form != "eap-ig":
        _draw(source, out, form, circuit)
        return
    if form is not None:
        if model is None and d_model is None:
            raise CircuitsError("their files hold the model's width: give --model or --d-model")
        _write(source, out, model, d_model, circuit)
        return
    if circuit is not None:
        raise CircuitsError("--circuit goes with an --out of .json or .pt, or with a --to")
    _read(source, out, model, how)


_FORM_OF: dict[str, GraphForm] = {
    **dict.fromkeys((".json", ".pt"), "eap-ig"),
    **{f".{form}": form for form in ("graphml", "gexf", "gml", "dot")},
}


def _draw(source: Path, out: Path, form: NetworkForm, circuit: Path | None) -> None:
    from circuits.errors import CircuitsError
    from circuits.graph import Circuit, EdgeScores, load_scores
    from circuits.graph.levels import load_circuit
    from circuits.graph.network import write_network

    if source.suffix == ".pt" or (source.suffix == ".json" and _has_cfg(source)):
        raise CircuitsError(
            f"{source}: a graph file of EAP-IG; convert it to a folder of this package first"
        )
    if source.suffix == ".json":
        if circuit is not None:
            raise CircuitsError("--circuit goes with scores, and this is a circuit itself")
        graph = load_circuit(source).to_networkx()
    else:
        scores = load_scores(source)
        if circuit is None:
            graph = scores.to_networkx()
        else:
            loaded_circuit = load_circuit(circuit)
            if not (isinstance(scores, EdgeScores) and isinstance(loaded_circuit, Circuit)):
                raise CircuitsError("--circuit and scores of edges go together here")
            _require_one_model(scores, loaded_circuit, source, circuit)
            graph = Circuit(
                loaded_circuit.layout, loaded_circuit.mask, scores.matrix, loaded_circuit.provenance
            ).to_networkx()
    use.echo_outputs(write_network(graph, out, form))
    typer.echo(f"{graph.number_of_nodes()} nodes, {graph.number_of_edges()} edges")


def _has_cfg(file: Path) -> bool:
    from circuits.runtime.files import read_json

    content = read_json(file)
    return isinstance(content, dict) and "cfg" in content


def _require_one_model(
    scores: EdgeScores, loaded_circuit: Circuit, source: Path, circuit: Path
) -> None:
    from circuits.errors import CircuitsError

    scored_model, circuit_model = scores.provenance.model, loaded_circuit.provenance.model
    if (
        scored_model is not None
        and circuit_model is not None
        and scored_model.has_other_weights(circuit_model)
    ):
        raise CircuitsError(f"{circuit}: its model is not the one that {source} was made from")
    if scores.layout != loaded_circuit.layout:
        raise CircuitsError(
            f"{circuit}: of a model of {loaded_circuit.layout.summary}, where {source} has "
            f"{scores.layout.summary}"
        )


def _write(
    source: Path, out: Path, model: str | None, d_model: int | None, circuit: Path | None
) -> None:
    from circuits.graph import Circuit, EdgeScores
    from circuits.graph.interchange import write_graph
    from circuits.graph.ungrouped import ungrouped_share

    is_circuit = source.suffix == ".json"
    scores = None if is_circuit else EdgeScores.load(source)
    circuit_file = source if is_circuit else circuit
    loaded_circuit = None if circuit_file is None else Circuit.load(circuit_file)
    if scores is not None and loaded_circuit is not None and circuit is not None:
        _require_one_model(scores, loaded_circuit, source, circuit)
    if model is not None and (part := scores or loaded_circuit) is not None:
        d_model = _sizes(model, source, part.layout, d_model=d_model)[0]
    assert d_model is not None
    use.echo_outputs(write_graph(out, d_model=d_model, scores=scores, circuit=loaded_circuit))
    if loaded_circuit is not None:
        typer.echo(f"{ungrouped_share(loaded_circuit):.2%} of the edges, as MIB counts them")


def _read(source: Path, out: Path, model: str | None, how: ImportOptions) -> None:
    from circuits.errors import CircuitsError
    from circuits.graph.interchange import GraphFile

    graph = GraphFile.read(source)
    of_nodes = bool(graph.node_scores())
    if not (graph.has_scores or graph.has_circuit or of_nodes):
        raise CircuitsError(f"{source}: no edge has a score and none is in the graph")
    if model is not None:
        heads = _sizes(model, source, graph.wide, d_model=graph.d_model, kv_heads=how.kv_heads)[1]
        how = replace(how, kv_heads=heads)
    imported_circuit = None
    if graph.has_circuit:
        graph.circuit()  # a file that contradicts itself is refused, whatever else it holds
        try:
            imported_circuit = graph.circuit(how)
        except CircuitsError as error:
            if not (graph.has_scores or of_nodes):
                raise
            typer.echo(f"note: its scores only; {error}", err=True)
    if graph.has_scores:
        scores = graph.scores(how)
        use.echo_outputs(scores.save(out), out / "scores.json")
    if of_nodes:
        nodes = graph.scores_of_nodes(how)
        file = nodes.save(out / "nodes" if graph.has_scores else out)
        use.echo_outputs(file, file.with_suffix(".json"))
    if imported_circuit is not None:
        imported_circuit.save(out / "circuit.json")
        use.echo_outputs(out / "circuit.json")


def _sizes(
    model: str,
    source: Path,
    layout: Layout,
    *,
    d_model: int | None = None,
    kv_heads: int | None = None,
) -> tuple[int, int]:
    """The model's width and its number of KV heads, from its configuration.

    Raises CircuitsError where the file, or a number that is given besides, is of another shape.
    """
    from circuits.errors import CircuitsError
    from circuits.models.checkpoints import load_config

    config = load_config(model).get_text_config()
    heads, width = int(config.num_attention_heads), int(config.hidden_size)
    grouped = int(getattr(config, "num_key_value_heads", None) or heads)
    for dimension, size, expected in (
        ("layers", layout.n_layers, int(config.num_hidden_layers)),
        ("heads", layout.n_heads, heads),
        ("KV heads", layout.n_kv_heads if kv_heads is None else kv_heads, grouped),
        ("width", d_model, width),
    ):
        ungrouped = dimension == "KV heads" and size == heads and kv_heads is None
        if size not in (None, expected) and not ungrouped:
            raise CircuitsError(
                f"{dimension}: {size} of {source} or as given, and {expected} of {model}; --model "
                "disagrees with the file. Pass the model the file was made from, and do not also "
                "pass --d-model or --kv-heads"
            )
    return width, grouped
