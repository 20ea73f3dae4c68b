"""The verb `circuits select`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuits.cli import options as use
from circuits.cli.ranking import show_inlets
from circuits.errors import CircuitsError
from circuits.options.choices import Ranking
from circuits.options.circuit import SelectionOptions

if TYPE_CHECKING:
    from circuits.graph import AnyCircuit, AnyScores


def select(
    scores: Annotated[Path, typer.Option(help="Folder or file that `discover` wrote.")],
    out: Annotated[Path, typer.Option(help="File to write the circuit into.")] = Path(
        "circuit.json"
    ),
    size: Annotated[
        int | None,
        typer.Option(
            help="How many edges, nodes or neurons, before pruning.",
            parser=use.read_size,
            metavar="<int>",
        ),
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(help="Share of all of them, as in 0.05; in place of --size."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="The least score of an edge, in place of --size.")
    ] = None,
    *,
    how: SelectionOptions,
) -> None:
    """Choose a circuit from scores, without scoring again.

    Circuits are of edges, or of nodes or neurons where the scores are; `circuits evaluate
    --circuit` tells how faithful one is. Ranked by absolute score by default: scores alone do not
    say which ranking is right, which `discover --size` and `evaluate` find out on pairs.

    Example: circuits select --scores scores --size 48 --out circuit.json
    """
    from circuits.graph import EdgeScores, load_scores
    from circuits.graph import select as select_edges
    from circuits.graph.levels import empty_like, select_size, size_of_fraction

    if sum(rule is not None for rule in (size, fraction, min_score)) != 1:
        raise CircuitsError("give one of --size, --fraction and --min-score")
    use.require_writable(out, file=True)
    loaded_scores = load_scores(scores)
    if min_score is not None:
        if not isinstance(loaded_scores, EdgeScores):
            raise CircuitsError("--min-score is for edges; of nodes and neurons give --size")
        if how.strategy is not None:
            raise CircuitsError(
                f"--strategy {how.strategy} orders edges by --size; it takes no --min-score"
            )
        circuit: AnyCircuit = select_edges(
            loaded_scores,
            min_score=min_score,
            strategy="threshold",
            ranking=how.ranking,
            positive_ratio=how.positive_ratio,
            prune=how.prune,
        )
    else:
        size = size or size_of_fraction(loaded_scores, fraction or 0)
        circuit = select_size(
            loaded_scores,
            size,
            strategy=how.strategy,
            ranking=how.ranking,
            positive_ratio=how.positive_ratio,
            prune=how.prune,
        )
    circuit.save(out)
    n_candidates, unit = len(empty_like(loaded_scores).candidates), f"{circuit.level}s"
    between = f" between {len(circuit.nodes)} nodes" if circuit.level == "edge" else ""
    typer.echo(f"{len(circuit)} of {n_candidates} {unit}{between}")
    show_inlets(circuit)
    if size is not None:
        _show_other(loaded_scores, circuit, size, how)
    use.echo_outputs(out)


def _show_other(
    scores: AnyScores, circuit: AnyCircuit, size: int, options: SelectionOptions
) -> None:
    """How much the circuit shares with that of the other ranking; only pairs can tell which is
    right.
    """
    from circuits.graph.levels import select_size

    selection = circuit.provenance.selection
    signed = selection is not None and selection.ranking == "signed"
    ranking: Ranking = "absolute" if signed else "signed"
    other_circuit = select_size(
        scores, size, strategy=options.strategy, ranking=ranking, prune=options.prune
    )
    shared, union = (
        (circuit.mask & other_circuit.mask).sum(),
        (circuit.mask | other_circuit.mask).sum(),
    )
    typer.echo(
        f"by {ranking} score: {len(other_circuit)} {circuit.level}s, Jaccard {shared / union:.2f} "
        "with these; `circuits evaluate` chooses between rankings on pairs of their own"
    )
