"""One figure of one result. Every function takes `dark=True` for a dark ground."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from plotly.graph_objects import Figure  # singledispatch reads it at run time

from circuits.attribution.edge_effects import EdgeEffects
from circuits.comparison import Comparison, CrossEvaluation, Evolution
from circuits.errors import InputError
from circuits.evaluation import Evaluation, Faithfulness, Minimality, Reliability, Stability
from circuits.graph import AnyCircuit, Circuit, EdgeScores, NodeCircuit
from circuits.intervention.patching import Patching
from circuits.model_diff import ModelDiff
from circuits.model_diff.hidden import RepresentationTrajectory
from circuits.plot.figures import circuit_graph as graph
from circuits.plot.figures import comparison as compared
from circuits.plot.figures import edge_effects as measured
from circuits.plot.figures import faithfulness as curves
from circuits.plot.figures import lora as lora_figures
from circuits.plot.figures import minimality as removed
from circuits.plot.figures import model_diff as heads
from circuits.plot.figures import patching as patched
from circuits.plot.figures import reliability as required
from circuits.plot.figures import score_heatmap as heatmap
from circuits.plot.figures import stability as included
from circuits.plot.figures import trajectory as courses
from circuits.plot.figures.dots import dots_height
from circuits.plot.figures.panels import balanced
from circuits.plot.figures.path import HEIGHT, path_views
from circuits.plot.figures.training import training_curves
from circuits.plot.plotly_figure import as_figure
from circuits.tuning.adapter_circuits import AdapterCircuits
from circuits.tuning.lora_result import LoraComparison
from circuits.tuning.training_log import TrainingLog


@singledispatch
def draw(result: object, **how: object) -> Figure:
    """The figure of a result; which one, its type decides.

    Args:
        result: a result that has a figure.
        **how: as for the function that draws it.

    Returns:
        A plotly figure.

    Raises:
        InputError: where such a result has no figure.
    """
    message = f"no figure of a {type(result).__name__}{' with ' + ', '.join(how) if how else ''}"
    raise InputError(f"{message}; see circuits.plot for what has one")


@draw.register(Circuit)
@draw.register(NodeCircuit)
def circuit(circuit: AnyCircuit, *, dark: bool = False) -> Figure:
    """The circuit as a graph, from the input below to the logits above.

    Args:
        circuit: of edges; of nodes or neurons, its nodes are drawn.
        dark: on a dark ground.

    Returns:
        A plotly figure; blue edges score above 0, orange ones below.
    """
    height = graph.graph_height(circuit.layout)
    return as_figure(graph.circuit_graph(circuit), height=height, dark=dark)


@draw.register
def scores(scores: EdgeScores, *, circuit: Circuit | None = None, dark: bool = False) -> Figure:
    """Every edge's score, sources against readers.

    Args:
        scores: of edges.
        circuit: framed in the heat map.
        dark: on a dark ground.

    Returns:
        A plotly figure.
    """
    plot = heatmap.score_heatmap(scores, circuit)
    return as_figure(plot, height=heatmap.heatmap_height(scores.layout), dark=dark)


@draw.register
def faithfulness(result: Faithfulness, *, dark: bool = False) -> Figure:
    """Faithfulness by circuit size, of the signed, the absolute and a random ranking.

    Args:
        result: what `circuits.faithfulness` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure; bands are 95 % intervals.
    """
    plot = curves.faithfulness_curves({result.metric: result}, columns=1)
    return as_figure(plot, height=curves.faithfulness_height(1, 1), dark=dark)


@draw.register
def evaluation(result: Evaluation, *, dark: bool = False) -> Figure:
    """Faithfulness by circuit size of every checkpoint; a star is its circuit.

    Args:
        result: `circuits.open_run(...).evaluation`.
        dark: on a dark ground.

    Returns:
        A plotly figure, a panel for each checkpoint.
    """
    columns = balanced(list(result.order))
    plot = curves.faithfulness_curves(
        {name: checkpoint.faithfulness for name, checkpoint in result.checkpoints.items()},
        {name: checkpoint.circuit for name, checkpoint in result.checkpoints.items()},
        columns=columns,
    )
    height = curves.faithfulness_height(len(result.order), columns)
    return as_figure(plot, height=height, dark=dark)


@draw.register
def edge_effects(
    effects: EdgeEffects, *, estimates: Sequence[EdgeScores] = (), dark: bool = False
) -> Figure:
    """What single edges do, or how far estimates are from it.

    Args:
        effects: what `circuits.patch_edges` returned.
        estimates: scores of the same model; a panel for each holds them against the effects.
        dark: on a dark ground.

    Returns:
        A plotly figure.
    """
    height = measured.effects_height(effects, len(estimates))
    if estimates:
        return as_figure(measured.estimate_panels(effects, estimates), height=height, dark=dark)
    return as_figure(measured.effect_dots(effects), height=height, dark=dark)


@draw.register
def minimality(result: Minimality, *, dark: bool = False) -> Figure:
    """The drop in f when each edge (node, neuron) alone is removed.

    Args:
        result: what `circuits.minimality` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure.
    """
    return as_figure(removed.minimality_dots(result), height=430, dark=dark)


@draw.register
def stability(result: Stability, *, dark: bool = False) -> Figure:
    """How often resamples of the examples select each edge (node, neuron).

    Args:
        result: what `circuits.stability` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure.
    """
    return as_figure(included.inclusion(result), height=300, dark=dark)


@draw.register
def reliability(result: Reliability, *, dark: bool = False) -> Figure:
    """The Jaccard index of circuits of two sets of examples, by the number of examples.

    Args:
        result: what `circuits.reliability` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure.
    """
    return as_figure(required.jaccard_by_examples(result), height=320, dark=dark)


@draw.register
def similarity(evolution: Evolution, *, dark: bool = False) -> Figure:
    """How similar checkpoints are, beside how similar a checkpoint is to itself.

    Args:
        evolution: what `circuits.compare` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure, a panel for each two checkpoints.
    """
    comparisons = evolution.overview
    columns = _columns(comparisons)
    height = dots_height(len(comparisons), len(compared.SIMILARITIES), columns, 30)
    plot = compared.similarity_dots(
        {compared.title_of(comparison): comparison for comparison in comparisons}, columns
    )
    return as_figure(plot, height=height, dark=dark)


def turnover(evolution: Evolution, *, dark: bool = False) -> Figure:
    """How many edges of growing circuits were added or removed, with a node or by rewiring.

    Args:
        evolution: what `circuits.compare` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure, a panel for each two checkpoints.
    """
    comparisons = evolution.overview
    columns = _columns(comparisons)
    height = compared.turnover_height(len(comparisons), columns)
    return as_figure(compared.turnover_bars(comparisons, columns), height=height, dark=dark)


def variance(evolution: Evolution, *, dark: bool = False) -> Figure:
    """Where the variance of the score change lies: in sources, in readers, or in single edges.

    Args:
        evolution: what `circuits.compare` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure, a panel for each two checkpoints.
    """
    comparisons = evolution.overview
    columns = _columns(comparisons)
    height = dots_height(len(comparisons), len(compared.VARIANCE), columns, 38)
    return as_figure(compared.variance_dots(comparisons, columns), height=height, dark=dark)


def inclusion(evolution: Evolution, *, dark: bool = False) -> Figure:
    """The edges of the last circuit, by the checkpoint whose circuit holds them first.

    Args:
        evolution: what `circuits.compare` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure; colour is the share of resamples whose circuit holds the edge.
    """
    trajectory = evolution.trajectory
    height = courses.raster_height(trajectory)
    return as_figure(courses.inclusion_raster(trajectory), height=height, dark=dark)


@draw.register
def cross_evaluation(cross: CrossEvaluation, *, dark: bool = False) -> Figure:
    """Faithfulness of each checkpoint's circuit (columns) in each checkpoint (rows).

    Args:
        cross: what `circuits.cross_evaluate` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure.
    """
    height = courses.matrix_height(cross)
    return as_figure(courses.cross_evaluation_matrix(cross), height=height, dark=dark)


@draw.register
def attention(diff: ModelDiff, *, dark: bool = False) -> Figure:
    """How far attention differs by head, and how its entropy changed.

    Args:
        diff: what `circuits.diff_models` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure, layers from below, heads from the left.
    """
    plot = heads.head_heatmaps(diff.kl, diff.entropy_change)
    return as_figure(plot, height=heads.heads_height(diff.n_layers), dark=dark)


@draw.register
def representations(
    states: RepresentationTrajectory, *, view: str | None = None, dark: bool = False
) -> Figure:
    """The mean hidden state from checkpoint to checkpoint.

    Args:
        states: what `circuits.model_diff.hidden.representation_trajectory` returned.
        view: name of a projection; None takes the first.
        dark: on a dark ground.

    Returns:
        A plotly figure.

    Raises:
        InputError: where there is no such projection.
    """
    views = path_views(states)
    view = view or next(iter(views))
    if view not in views:
        raise InputError(f"view {view!r}: there are {', '.join(views)}")
    return as_figure(views[view], height=HEIGHT, dark=dark)


@draw.register
def patching(result: Patching, *, metric: str | None = None, dark: bool = False) -> Figure:
    """The share of the gap that each patch recovers, or loses.

    Args:
        result: what `circuits.patch` or `circuits.path_patch` returned.
        metric: one of those measured; None takes the first.
        dark: on a dark ground.

    Returns:
        A plotly figure.

    Raises:
        InputError: where the metric was not measured.
    """
    metric = metric or result.metrics[0]
    if metric not in result.metrics:
        raise InputError(f"metric {metric!r}: measured were {', '.join(result.metrics)}")
    height = patched.patching_height(result)
    return as_figure(patched.patching_plot(result, metric), height=height, dark=dark)


@draw.register
def loras(result: LoraComparison, *, dark: bool = False) -> Figure:
    """Held-out loss of LoRAs on different layers, by seed and in the mean.

    Args:
        result: what `circuits.compare_lora_targets` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure.
    """
    height = dots_height(1, len(result.targets), 1, 36)
    return as_figure(lora_figures.lora_dots(result), height=height, dark=dark)


@draw.register
def lora_circuits(result: AdapterCircuits, *, dark: bool = False) -> Figure:
    """How similar base and adapters are to a fully fine-tuned model, beside noise ceilings.

    Args:
        result: what `circuits.compare_adapter_circuits` returned.
        dark: on a dark ground.

    Returns:
        A plotly figure, a panel for each model.
    """
    panels = {overlap.model: overlap for overlap in result.overlaps}
    columns = balanced(list(panels))
    height = dots_height(len(panels), len(compared.SIMILARITIES), columns, 30)
    return as_figure(compared.similarity_dots(panels, columns), height=height, dark=dark)


@draw.register
def training(log: TrainingLog, *, checkpoints: tuple[int, ...] = (), dark: bool = False) -> Figure:
    """Loss and token accuracy while training.

    Args:
        log: of a fine-tuning.
        checkpoints: steps that are marked.
        dark: on a dark ground.

    Returns:
        A plotly figure.
    """
    return as_figure(training_curves(log, list(checkpoints)), height=340, dark=dark)


def _columns(comparisons: tuple[Comparison, ...]) -> int:
    return balanced([compared.title_of(comparison) for comparison in comparisons])
