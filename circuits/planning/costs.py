"""What jobs keep in memory while they work on a batch, and what they compute.

A phase is what the passes keep alive (counted by `passes.count_passes`) and what our own code
keeps beside them (`buffers`). Work is the passes that a job is made of, each kind with its own
bound, and its own products, of whose operations only the sizes are counted.
Attribution methods name theirs themselves, of these parts; `JOBS` are all others.
"""

from __future__ import annotations

from dataclasses import fields

from circuits.planning import buffers
from circuits.planning.jobs import ADAM, Case, CostModel, Phases, Work
from circuits.planning.passes import Workload
from circuits.runtime.limits import AUDITED, PATTERN_READS, side_by_side

_CURVE = 10 * 5  # points of a curve; signed, absolute and three random rankings
_FLOAT = 4
_INPUTS_MOVED = 12  # times that a step with gates reads or writes every reader's input


def path_phases(case: Case) -> Phases:
    """Of methods that average gradients along a path."""
    sizes, shape, job = case.sizes, case.job.shape, case.job
    engine = buffers.Engine(sizes, shape, job.passes, case.traced.weights, job.recompute)
    engine_bytes = engine.lasting()
    return {
        "clean and corrupted runs": {
            "source outputs": 2 * buffers.source_bytes(sizes, shape),
            "forward pass": case.traced.forward.peak,
        },
        "gradients along the path": {
            **engine_bytes,
            "forward and backward pass": case.traced.step.peak,
        },
        "sources against readers": {**engine_bytes, **engine.meeting()},
    }


def path_work(case: Case) -> Work:
    """Passes along a path, then sources against readers."""
    traced, passes = case.traced, case.job.passes
    return (*ends_work(case), traced.step * passes, _contraction(case))


def softer_phases(case: Case) -> Phases:
    """Of one pass in which attention is run again at another temperature."""
    attention_bytes = buffers.softer_attention(case.sizes, case.job.shape, eager=case.traced.eager)
    passes = "gradients along the path"
    return {
        name: {**parts, "attention at its temperature": attention_bytes}
        if name == passes
        else parts
        for name, parts in path_phases(case).items()
    }


def softer_work(case: Case) -> Work:
    """Such a pass, then sources against readers."""
    step = case.traced.step
    pattern = case.job.shape.batch * case.sizes.layout.n_heads * case.job.shape.length**2
    moved = PATTERN_READS * _FLOAT * case.sizes.layout.n_layers * pattern
    again = Workload(attention=step.attention, moved=moved if case.traced.eager else 0)
    return (*path_work(case), again)


def activations_phases(case: Case) -> Phases:
    """Of a path for each group of sources: its outputs are held beside."""
    outputs = buffers.module_outputs(case.sizes, case.job.shape)
    return {
        name: {**parts, "module outputs, clean and corrupted": outputs}
        for name, parts in path_phases(case).items()
    }


def activations_work(case: Case) -> Work:
    """A path for each group of sources."""
    groups = 1 + 2 * case.sizes.layout.n_layers
    path = case.traced.step * case.job.passes, _contraction(case, audited=0)
    return (*ends_work(case), *(part * groups for part in path))


def executor_phases(case: Case) -> Phases:
    """Of running circuits."""
    return {"running circuits": buffers.executor_buffers(case.sizes, case.job.shape)}


def _mask_phases(case: Case) -> Phases:
    gate_bytes = buffers.gate_buffers(case.sizes, case.job.shape)
    return {"a step with gates": {**gate_bytes, "forward and backward pass": case.traced.step.peak}}


def _mask_work(case: Case) -> Work:
    """Runs without gates once, then passes with them."""
    sizes, layout, tokens = case.sizes, case.sizes.layout, case.job.shape.tokens
    stream = sizes.d_model * tokens
    widen = 2 * stream * layout.n_layers * layout.n_heads * sizes.d_head
    sums = Workload(matmul=3 * 2 * stream * layout.n_edges + 2 * widen)
    inputs = Workload(moved=_INPUTS_MOVED * _FLOAT * stream * layout.shape[1])
    epochs = case.job.passes
    return (*ends_work(case), case.traced.step * epochs, sums * epochs, inputs * epochs)


def _evaluate_work(case: Case) -> Work:
    curve = case.traced.forward, _sums_of_sources(case)
    return (*ends_work(case), *(part * _CURVE for part in curve))


def exact_phases(case: Case) -> Phases:
    """Of runs side by side that each cut one edge."""
    sizes, shape, forward = case.sizes, case.job.shape, case.traced.forward
    cutting_bytes, sources = (
        buffers.cutting_buffers(sizes, shape),
        buffers.source_bytes(sizes, shape),
    )
    runs = min(_runs(case), sizes.layout.n_edges)
    return {
        "clean and corrupted runs": {
            "sources, clean and corrupted": 2 * sources,
            "forward pass": forward.peak,
        },
        "readers that lack an edge": {
            **cutting_bytes,
            "inputs of readers, side by side": buffers.cut_readers(sizes, shape),
        },
        "runs side by side": {
            **cutting_bytes,
            "sources, side by side": runs * sources,
            "forward passes": runs * forward.peak,
        },
    }


def exact_work(case: Case) -> Work:
    """The layers from each edge's reader on, several runs side by side."""
    layout, shape, runs, forward = (
        case.sizes.layout,
        case.job.shape,
        _runs(case),
        case.traced.forward,
    )
    layers = layout.n_layers
    reader_layers = [node.layer for node in layout.reader_nodes]
    left = [0 if layer is None else layers - layer for layer in reader_layers]
    edges = layout.mask.sum(dim=0).tolist()
    layers_run = sum(n_edges * n_layers for n_edges, n_layers in zip(edges, left, strict=True))
    # What no layer does is done for every edge; of it the logits count.
    reads = shape.batch * shape.answer_positions
    logits = 2 * reads * case.sizes.d_model * case.sizes.d_vocab
    of_layers = Workload(
        forward.matmul - logits, forward.attention, forward.moved, forward.launches // runs
    )
    layer_work = Workload(
        *(getattr(of_layers, kind.name) * layers_run // layers for kind in fields(Workload))
    )
    # Of each edge what its source changed, and the reader's own product with it.
    cut = 2 * shape.tokens * case.sizes.d_model * (1 + case.sizes.d_head)
    return (*ends_work(case), layer_work, Workload(matmul=(logits + cut) * layout.n_edges))


def _runs(case: Case) -> int:
    """How many stand side by side."""
    return side_by_side(case.job.shape.batch * case.job.shape.length)


def flow_phases(case: Case) -> Phases:
    """Of information-flow routes."""
    sizes, shape = case.sizes, case.job.shape
    flow_bytes = buffers.flow_buffers(sizes, shape)
    return {
        "clean run": {**flow_bytes, "forward pass": case.traced.forward.peak},
        "sources near readers": {**flow_bytes, **buffers.proximity_buffers(sizes, shape)},
    }


def flow_work(case: Case) -> Work:
    """One clean run, and every source beside every reader."""
    layout, sizes, tokens = case.sizes.layout, case.sizes, case.job.shape.tokens
    widen = 2 * tokens * layout.n_layers * layout.n_heads * sizes.d_head * sizes.d_model
    # q, k and v of a layer read the same. A source there: a difference, its size, their sum.
    columns = [layout.logits_column, *map(layout.mlp_column, range(layout.n_layers))]
    columns += [layout.attention_columns(layer).start for layer in range(layout.n_layers)]
    pairs = sum(len(layout.visible(column)) for column in columns)
    moved = 6 * _FLOAT * tokens * pairs * sizes.d_model
    return (*ends_work(case), Workload(matmul=widen, moved=moved))


def ends_phases(case: Case) -> Phases:
    """Of a clean and a corrupted run alone."""
    return {"clean and corrupted runs": {"forward pass": case.traced.forward.peak}}


def _diff_phases(case: Case) -> Phases:
    sizes, shape = case.sizes, case.job.shape
    diff_bytes = buffers.diff_buffers(sizes, shape, eager=case.traced.eager)
    return {
        "two runs": {**diff_bytes, "forward pass": case.traced.forward.peak},
        "layers side by side": {**diff_bytes, **buffers.distribution_buffers(sizes, shape)},
    }


def _diff_work(case: Case) -> Work:
    sizes, shape = case.sizes, case.job.shape
    pattern = shape.batch * sizes.layout.n_layers * sizes.layout.n_heads * shape.length**2 // 2
    patterns = Workload(
        matmul=2 * 2 * pattern * sizes.d_head, moved=PATTERN_READS * _FLOAT * pattern
    )
    return case.traced.forward * 2, patterns


def _training_phases(case: Case) -> Phases:
    step = case.traced.step.peak - ADAM * case.traced.trained
    return {"training": {"passes, gradients and the update": step}}


def _training_work(case: Case) -> Work:
    return (case.traced.step * case.job.passes,)


def ends_work(case: Case) -> Work:
    """The shared start, and the clean and the corrupted run behind it."""
    twice, prefix = case.traced.forward * 2, case.traced.prefix
    return (twice,) if prefix is None else (prefix, twice)


def _contraction(case: Case, *, audited: int = AUDITED) -> Workload:
    """Sources against readers at all positions, behind every pass and behind all.

    audited: layers whose readers meet the sources behind every pass.
    """
    sizes, layout, d, passes = case.sizes, case.sizes.layout, case.sizes.d_model, case.job.passes
    sources, layers = layout.shape[0], layout.n_layers
    share = min(audited, layers) / layers
    times = 1 - share + share * passes
    widen = layers * sizes.d_head * d * (layout.n_heads * (passes + 1) + sizes.ports * times)
    direct = layout.n_edges * d * times
    rank_one = passes * (layers * sources * d + layout.n_edges)
    return Workload(matmul=round(2 * case.job.shape.tokens * (widen + direct + rank_one)))


def _sums_of_sources(case: Case) -> Workload:
    """What one run on a circuit computes beside the forward pass, at the mean size of a curve."""
    share = 0.09  # mean of the fractions, where none and all of the edges need no sums
    edges = round(share * case.sizes.layout.n_edges)
    return Workload(matmul=2 * case.job.shape.tokens * edges * case.sizes.d_model)


EVALUATE = CostModel(
    "evaluate", "a faithfulness curve", executor_phases, _evaluate_work, splits=True
)
MASK = CostModel(
    "mask",
    "a mask learned in so many epochs",
    _mask_phases,
    _mask_work,
    40,
    counted=True,
    splits=True,
    alone=True,
)
DIFF = CostModel(  # of two models: twice the queries, keys and streams
    "diff", "two models side by side", _diff_phases, _diff_work, tokens=1024, models=2
)
FINETUNE = CostModel(
    "finetune",
    "training of all weights",
    _training_phases,
    _training_work,
    300,
    counted=True,
    trains="weights",
)
LORA = CostModel(
    "lora",
    "training of an adapter of rank 8 on all layers",
    _training_phases,
    _training_work,
    300,
    counted=True,
    trains="lora",
)

JOBS = {cost.name: cost for cost in (EVALUATE, MASK, DIFF, FINETUNE, LORA)}
"""What can be planned beside attribution methods."""
