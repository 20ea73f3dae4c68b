"""The circuits: drawn, as a matrix of scores, and their strongest edges in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from circuits.format import MISSING, count, general, percent
from circuits.graph import Circuit, EdgeScores, Provenance
from circuits.graph.findings import RankingChoice
from circuits.plot.figures.circuit_graph import DRAWN, circuit_graph, graph_height, legend
from circuits.plot.figures.score_heatmap import DOTTED, heatmap_height, score_heatmap
from circuits.report.blocks import Block, Figure, Method, Table, Text
from circuits.report.run import Run
from circuits.runs import MissingResultError
from circuits.statistics import mean_interval, resample_weights

TOP = 15
_RESAMPLES = 1000
_FORMULA = "score(u → v) = (clean output of u - corrupted output of u) · ∂ metric / ∂ input of v"
_SOURCES = {
    "eap": "Syed, Rager and Conmy (2023), Attribution Patching Outperforms Automated Circuit "
    "Discovery.",
    "eap-ig": "Hanna, Pezzelle and Belinkov (2024), Have Faith in Faithfulness.",
}


def graphs(run: Run) -> Iterator[Block]:
    """The circuit of each checkpoint."""
    circuits = run.circuits
    last = list(circuits)[-1]
    layout = circuits[last].layout
    yield Text(
        f"The model is a residual stream that {layout.shape[0]} sources (the input, heads and "
        f"MLPs) write to and {layout.shape[1]} readers (each head's query, key and value; MLPs; "
        f"the logits) read from: {count(layout.n_edges)} edges in all. A circuit is a set of "
        "edges; every other edge carries the value that it has on the corrupted twin."
    )
    counts = [count(len(circuit)) for circuit in circuits.values()]
    sizes = (
        f"{counts[0]} edges in each"
        if len(set(counts)) == 1
        else "; ".join(f"{name}: {n} edges" for name, n in zip(circuits, counts, strict=True))
    )
    cut = max(map(len, circuits.values())) > DRAWN
    yield Figure(
        caption="The circuit of each checkpoint, with the input at the bottom and the logits on "
        f"top. {legend(circuits[last], 'the strongest edge of that checkpoint')} Size: {sizes}."
        + (f" Larger circuits are drawn by their {DRAWN} strongest edges." if cut else ""),
        views={name: circuit_graph(circuit) for name, circuit in circuits.items()},
        height=graph_height(layout),
        method=Method(
            steps=(
                _selection(circuits[last]),
                "Nodes and edges on no path from the input to the logits are removed. The "
                "number of edges below was counted before.",
            ),
            settings=_settings(circuits[last].provenance),
        ),
        chosen=last,
    )


def heatmaps(run: Run) -> Iterator[Block]:
    """All scores of each checkpoint."""
    scores = run.scores
    try:
        circuits = run.circuits
    except MissingResultError:
        circuits = {}
    last = list(scores)[-1]
    layout = scores[last].layout
    yield Figure(
        caption="The score of every edge, with sources from bottom to top and readers from left "
        "to right (q, k and v of each layer's heads; m is its MLP). Blue supports the "
        "behaviour, orange works against it. The colour shows the root of |score|, on a "
        "scale of its own for each checkpoint. A blank cell has no edge."
        + (
            " Small dots mark the edges of the circuit."
            if layout.shape[1] <= DOTTED and circuits
            else ""
        )
        + _n(scores[last]),
        views={
            name: score_heatmap(edge_scores, circuits.get(name))
            for name, edge_scores in scores.items()
        },
        height=heatmap_height(layout),
        method=_method(scores[last]),
        chosen=last,
    )


def top_edges(run: Run) -> Iterator[Block]:
    """The strongest edges of each checkpoint with their intervals."""
    scores = run.scores
    last = list(scores)[-1]
    has_examples = scores[last].per_example is not None
    yield Table(
        caption=f"The {TOP} edges of the largest |score| in each checkpoint, in the metric's units"
        + (
            ", with 95 % bootstrap intervals."
            if has_examples
            else ". They have no intervals, since scores were not kept by example."
        )
        + _n(scores[last]),
        head=["edge", "score", "95 % interval", "share of all |score|"],
        views={name: _rows(edge_scores) for name, edge_scores in scores.items()},
        method=Method(
            steps=(
                "The score of a set of examples is the mean over its examples; intervals are "
                f"bootstrap-t over examples, {_RESAMPLES} resamples, seed 0.",
            ),
        )
        if has_examples
        else None,
        chosen=last,
    )


def _rows(scores: EdgeScores) -> list[list[str]]:
    top = scores.top(TOP)
    total = float(scores.matrix.abs().sum()) or 1.0
    bounds = [MISSING] * len(top)
    if scores.per_example is not None and len(scores.per_example) > 1:
        edge_indices = [scores.layout.edge(name) for name, _ in top]
        rows, columns = zip(*edge_indices, strict=True)
        values = scores.per_example[:, list(rows), list(columns)]
        low, high = mean_interval(values, resample_weights(len(values), _RESAMPLES, seed=0))
        bounds = [
            f"[{general(a)}, {general(b)}]"
            for a, b in zip(low.tolist(), high.tolist(), strict=True)
        ]
    return [
        [name, general(score), bound, percent(abs(score) / total)]
        for (name, score), bound in zip(top, bounds, strict=True)
    ]


def _method(scores: EdgeScores) -> Method:
    return Method(
        steps=(
            "To first order, the score is how much the metric falls when the edge alone carries "
            "its corrupted value. Positive: the edge supports the behaviour. EAP-IG takes the mean "
            "of the gradient over points between the corrupted and the clean input; the mean of "
            "the scores over examples is shown.",
        ),
        formula=_FORMULA,
        settings={"method": scores.method, **_settings(scores.provenance)},
        source=_SOURCES.get(scores.method),
    )


def _selection(circuit: Circuit) -> str:
    rules = {
        "widest-path": "Whole paths from the input to the logits are taken, in the order of the "
        "rank of their weakest edge",
        "stable": "Edges are taken by rank. Edges whose score keeps its sign when the examples "
        "are resampled come first",
        "top-n": "The highest-ranked edges are taken",
        "threshold": "All edges whose score reaches the threshold are taken",
        "greedy": "The circuit grows backwards from the logits. Each step adds the "
        "highest-ranked edge into a node that is already in it",
    }
    selection = circuit.provenance.selection
    if selection is None:
        return "The settings say how edges were selected."
    ranked = {
        "absolute": "Edges are ranked by |score|.",
        "signed": "Edges are ranked by signed score.",
        "mixed": "A share of them is ranked by signed score, the rest by |score|.",
    }
    text = f"{rules[selection.strategy]}. {ranked[selection.ranking]}"
    return text if selection.choice is None else text + _choice(selection.choice)


def _choice(choice: RankingChoice) -> str:
    """How the rankings compared, where one was chosen on pairs of its own."""
    trials = ", ".join(
        f"{trial.name} f = {trial.f.value:.2f} and CMD = {trial.area_abs_gap.value:.3f}"
        for trial in choice.trials
    )
    return (
        f" The ranking was chosen on {choice.n} other pairs ({choice.split}), at circuits of "
        f"{choice.size}: {trials}; taken because {choice.reason}."
    )


def _n(scores: EdgeScores) -> str:
    if scores.per_example is not None:
        return f" n = {count(len(scores.per_example))} examples."
    data = scores.provenance.data
    return "" if data is None else f" n = {data.n} examples."


def _settings(provenance: Provenance) -> dict[str, object]:
    """All that a provenance says, as `outer.inner` rows, but the fingerprints of single pairs and
    the choice of the ranking, which is told in words.
    """
    begin = {} if provenance.begin is None else {"begin": str(provenance.begin)}
    record = provenance.model_dump(
        mode="json", exclude={"pairs": True, "begin": True, "selection": {"choice"}}
    )
    return _plain({**record, **begin})


def _plain(parts: Mapping[str, object]) -> dict[str, object]:
    """Nested parts as `outer.inner` rows."""
    plain: dict[str, object] = {}
    for name, value in parts.items():
        if isinstance(value, Mapping):
            plain |= {f"{name}.{inner}": item for inner, item in _plain(value).items()}
        elif value is not None:
            plain[name] = value
    return plain
