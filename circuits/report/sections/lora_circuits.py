"""Whether adapters build the circuit that full fine-tuning builds."""

from __future__ import annotations

from collections.abc import Iterator

from circuits.comparison import CrossEvaluation
from circuits.comparison.overlap import Overlap
from circuits.format import MISSING, count, estimate, listed, percent, signed
from circuits.plot.figures.comparison import SIMILARITIES, similarity_dots
from circuits.plot.figures.dots import dots_height
from circuits.plot.figures.layer_lines import layer_lines
from circuits.plot.figures.panels import balanced
from circuits.plot.figures.trajectory import cross_evaluation_matrix, matrix_height
from circuits.report.blocks import Block, Figure, Heading, Method, Table, Text
from circuits.report.run import Run
from circuits.tuning.adapter_circuits import AdapterCircuits


def overlap(run: Run) -> Iterator[Block]:
    """Circuits of adapters beside that of the last checkpoint."""
    if not _asked(run):
        return
    adapter_circuits, crossed = run.lora_circuits, run.lora_cross_evaluation
    size, n = adapter_circuits.overlaps[0].middle, count(adapter_circuits.scored.n)
    yield Heading("Does an adapter build the same circuit?")
    yield Text(_verdict(adapter_circuits))
    panels = {similarity.model: similarity for similarity in adapter_circuits.overlaps}
    columns = balanced(list(panels))
    yield Figure(
        caption=f"Blue: the similarity of each model with {adapter_circuits.tuned}. Grey: that of "
        "one of the two with itself. Both compare disjoint halves of the examples; the interval is "
        f"that of the difference from the grey mark, over {n} examples. {adapter_circuits.base}, "
        "which was not trained, is the control: an adapter is told from it only where its mark "
        f"stands higher. Shared edges and nodes are those of circuits of {count(size.size)} edges "
        f"({percent(size.fraction)}).",
        views={"": similarity_dots(panels, columns)},
        height=dots_height(len(panels), len(SIMILARITIES), columns, 30),
        method=Method(
            steps=(
                "Each adapter is scored on the same pairs and by the same settings as a "
                "checkpoint, merged into the base. Similarities, ceilings and intervals are made "
                "as those of checkpoints.",
            ),
            formula="gap = similarity with the other model - similarity within one",
            settings={
                "method": adapter_circuits.method,
                "splits": adapter_circuits.samples.splits,
                "gap subsets": adapter_circuits.samples.gap_subsets,
                "gap splits": adapter_circuits.samples.gap_splits,
                "seed": adapter_circuits.seed,
            },
        ),
    )
    yield Table(
        caption=f"Circuits of {count(size.size)} edges: what each model shares with "
        f"{adapter_circuits.tuned} on the other half of the examples, beside what one model shares "
        "with itself, and the difference with its 95 % interval; then that difference by |score| "
        "over all edges (weighted Jaccard), which no boundary between edges blurs. f of its "
        f"circuit in {adapter_circuits.tuned}, and of the circuit of {adapter_circuits.tuned} in "
        f"it, on {count(crossed.n)} other examples: 95 % intervals. "
        f"A random circuit in {adapter_circuits.tuned}: f = {estimate(crossed.rows[-1].control)}.",
        head=[
            "model",
            "shared edges",
            "ceiling",
            "difference",
            "",
            "all edges",
            "",
            f"its circuit in {adapter_circuits.tuned}",
            f"{adapter_circuits.tuned}'s circuit in it",
        ],
        views={
            "": [
                _row(similarity, adapter_circuits, crossed)
                for similarity in adapter_circuits.overlaps
            ]
        },
    )


def attention(run: Run) -> Iterator[Block]:
    """How far the attention of base, last checkpoint and adapters lies apart."""
    if not _asked(run):
        return
    adapter_circuits = run.lora_circuits
    n = count(adapter_circuits.read.n)
    yield Figure(
        caption=f"How far attention lies apart, layer by layer: KL in nats, mean over a layer's "
        f"heads and {n} examples, with 95 % intervals. An adapter that changes attention as full "
        f"fine-tuning does lies close to {adapter_circuits.tuned} and as far from "
        f"{adapter_circuits.base} as that does.",
        views={
            f"from {base}": layer_lines(
                {
                    divergence.model: divergence.kl_by_layer
                    for divergence in adapter_circuits.attention
                    if divergence.base == base
                },
                "KL, nats",
            )
            for base in (adapter_circuits.base, adapter_circuits.tuned)
        },
        chosen=f"from {adapter_circuits.base}",
        height=360,
        method=Method(
            steps=(
                "Both models read the same clean prompts. Each figure is a mean over the positions "
                "of a prompt, over heads, then over prompts; intervals are symmetric bootstrap-t.",
            ),
            formula="KL = Σ p log(p / q),  p the attention of the line's model, q that of the "
            "other",
            settings={
                "prompts": adapter_circuits.read.n,
                "resamples": adapter_circuits.n_resamples,
                "seed": adapter_circuits.seed,
            },
        ),
    )
    yield Table(
        caption=f"The mean over all heads: KL of the row's model from the column's, nats, with its "
        f"95 % interval over {n} examples.",
        head=["model", f"from {adapter_circuits.base}", f"from {adapter_circuits.tuned}"],
        views={
            "": [
                [
                    name,
                    estimate(adapter_circuits.attention_of(name, adapter_circuits.base).kl, 4),
                    MISSING
                    if name == adapter_circuits.tuned
                    else estimate(
                        adapter_circuits.attention_of(name, adapter_circuits.tuned).kl, 4
                    ),
                ]
                for name in (adapter_circuits.tuned, *adapter_circuits.adapters)
            ]
        },
    )


def crossed(run: Run) -> Iterator[Block]:
    """Every circuit in every one of the models."""
    if not _asked(run):
        return
    cross_evaluation = run.lora_cross_evaluation
    yield Figure(
        caption="Faithfulness of each model's circuit (columns) in each model (rows): base, "
        "adapters, and the last checkpoint. Hover for 95 % intervals over "
        f"{count(cross_evaluation.n)} examples.",
        views={"": cross_evaluation_matrix(cross_evaluation)},
        height=matrix_height(cross_evaluation),
        method=Method(
            steps=(
                "Each circuit runs in each model, with all other edges taken from the corrupted "
                "run; f is relative to the model's own metric on clean and corrupted prompts.",
            ),
            formula="f = (metric of the circuit - corrupted) / (clean - corrupted)",
            settings={"metric": cross_evaluation.metric, "examples": cross_evaluation.n},
        ),
    )


def _asked(run: Run) -> bool:
    """Whether the run says anything of it, or was to."""
    lora = run.settings.get("lora")
    requested = isinstance(lora, dict) and bool(lora.get("circuits"))
    return requested or (run.folder / "lora_circuits.json").is_file()


def _verdict(adapter_circuits: AdapterCircuits) -> str:
    """What overlap says, in words."""
    n, apart = count(adapter_circuits.scored.n), adapter_circuits.apart
    control = adapter_circuits.overlap(adapter_circuits.base).middle.edge_jaccard
    if adapter_circuits.base not in apart:
        return (
            f"{n} examples cannot tell: even the circuit of {adapter_circuits.base}, which was not "
            f"trained, shares as much with that of {adapter_circuits.tuned} as one model shares "
            f"with itself on other examples (difference {estimate(control.gap)})."
        )
    distinct = [name for name in adapter_circuits.adapters if name in apart]
    alike = [name for name in adapter_circuits.adapters if name not in apart]
    sentences = [
        f"The circuit of {adapter_circuits.base}, the control, shares less with that of "
        f"{adapter_circuits.tuned} than one model shares with itself on other examples "
        f"(difference {estimate(control.gap)})."
    ]
    if alike:
        sentences.append(f"Of {listed(alike)} {n} examples show no such difference.")
    if distinct:
        sentences.append(
            f"{listed(distinct)}: other circuits than that of {adapter_circuits.tuned}, "
            "beyond noise."
        )
    return " ".join(sentences)


def _row(
    similarity: Overlap, adapter_circuits: AdapterCircuits, crossed: CrossEvaluation
) -> list[str]:
    shared, weighted = similarity.middle.edge_jaccard, similarity.weighted_jaccard
    return [
        f"{similarity.model} (control)"
        if similarity.model == adapter_circuits.base
        else similarity.model,
        signed(shared.between),
        signed(shared.within),
        estimate(shared.gap),
        "another circuit" if shared.below_ceiling else "not shown",
        estimate(weighted.gap),
        "other scores" if weighted.below_ceiling else "not shown",
        estimate(crossed.f(adapter_circuits.tuned, similarity.model)),
        estimate(crossed.f(similarity.model, adapter_circuits.tuned)),
    ]
