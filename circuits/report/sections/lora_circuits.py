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
    found, crossed = run.lora_circuits, run.lora_cross_evaluation
    size, n = found.overlaps[0].middle, count(found.scored.n)
    yield Heading("Does an adapter build the same circuit?")
    yield Text(_verdict(found))
    panels = {one.model: one for one in found.overlaps}
    columns = balanced(list(panels))
    yield Figure(
        caption=f"Blue: the similarity of each model with {found.tuned}. Grey: that of one of the "
        "two with itself. Both compare disjoint halves of the examples; the interval is that of "
        f"the difference from the grey mark, over {n} examples. {found.base}, which was not "
        "trained, is the control: an adapter is told from it only where its mark stands higher. "
        f"Shared edges and nodes are those of circuits of {count(size.size)} edges "
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
                "method": found.method,
                "splits": found.samples.splits,
                "gap subsets": found.samples.gap_subsets,
                "gap splits": found.samples.gap_splits,
                "seed": found.seed,
            },
        ),
    )
    yield Table(
        caption=f"Circuits of {count(size.size)} edges: what each model shares with {found.tuned} "
        "on the other half of the examples, beside what one model shares with itself, and the "
        "difference with its 95 % interval; then that difference by |score| over all edges "
        "(weighted Jaccard), which no boundary between edges blurs. f of its circuit in "
        f"{found.tuned}, and of the circuit of {found.tuned} in it, on {count(crossed.n)} other "
        "examples: 95 % intervals. "
        f"A random circuit in {found.tuned}: f = {estimate(crossed.rows[-1].control)}.",
        head=[
            "model",
            "shared edges",
            "ceiling",
            "difference",
            "",
            "all edges",
            "",
            f"its circuit in {found.tuned}",
            f"{found.tuned}'s circuit in it",
        ],
        views={"": [_row(one, found, crossed) for one in found.overlaps]},
    )


def attention(run: Run) -> Iterator[Block]:
    """How far the attention of base, last checkpoint and adapters lies apart."""
    if not _asked(run):
        return
    found = run.lora_circuits
    n = count(found.read.n)
    yield Figure(
        caption=f"How far attention lies apart, layer by layer: KL in nats, mean over a layer's "
        f"heads and {n} examples, with 95 % intervals. An adapter that changes attention as full "
        f"fine-tuning does lies close to {found.tuned} and as far from {found.base} as that does.",
        views={
            f"from {base}": layer_lines(
                {one.model: one.kl_by_layer for one in found.attention if one.base == base},
                "KL, nats",
            )
            for base in (found.base, found.tuned)
        },
        chosen=f"from {found.base}",
        height=360,
        method=Method(
            steps=(
                "Both models read the same clean prompts. Each figure is a mean over the positions "
                "of a prompt, over heads, then over prompts; intervals are symmetric bootstrap-t.",
            ),
            formula="KL = Σ p log(p / q),  p the attention of the line's model, q that of the "
            "other",
            settings={"prompts": found.read.n, "resamples": found.n_resamples, "seed": found.seed},
        ),
    )
    yield Table(
        caption=f"The mean over all heads: KL of the row's model from the column's, nats, with its "
        f"95 % interval over {n} examples.",
        head=["model", f"from {found.base}", f"from {found.tuned}"],
        views={
            "": [
                [
                    name,
                    estimate(found.attention_of(name, found.base).kl, 4),
                    MISSING
                    if name == found.tuned
                    else estimate(found.attention_of(name, found.tuned).kl, 4),
                ]
                for name in (found.tuned, *found.adapters)
            ]
        },
    )


def crossed(run: Run) -> Iterator[Block]:
    """Every circuit in every one of the models."""
    if not _asked(run):
        return
    found = run.lora_cross_evaluation
    yield Figure(
        caption="Faithfulness of each model's circuit (columns) in each model (rows): base, "
        "adapters, and the last checkpoint. Hover for 95 % intervals over "
        f"{count(found.n)} examples.",
        views={"": cross_evaluation_matrix(found)},
        height=matrix_height(found),
        method=Method(
            steps=(
                "Each circuit runs in each model, with all other edges taken from the corrupted "
                "run; f is relative to the model's own metric on clean and corrupted prompts.",
            ),
            formula="f = (metric of the circuit - corrupted) / (clean - corrupted)",
            settings={"metric": found.metric, "examples": found.n},
        ),
    )


def _asked(run: Run) -> bool:
    """Whether the run says anything of it, or was to."""
    lora = run.settings.get("lora")
    asked = isinstance(lora, dict) and bool(lora.get("circuits"))
    return asked or (run.folder / "lora_circuits.json").is_file()


def _verdict(found: AdapterCircuits) -> str:
    """What overlap says, in words."""
    n, apart = count(found.scored.n), found.apart
    control = found.overlap(found.base).middle.edge_jaccard
    if found.base not in apart:
        return (
            f"{n} examples cannot tell: even the circuit of {found.base}, which was not trained, "
            f"shares as much with that of {found.tuned} as one model shares with itself on other "
            f"examples (difference {estimate(control.gap)})."
        )
    told = [name for name in found.adapters if name in apart]
    alike = [name for name in found.adapters if name not in apart]
    said = [
        f"The circuit of {found.base}, the control, shares less with that of {found.tuned} than "
        f"one model shares with itself on other examples (difference {estimate(control.gap)})."
    ]
    if alike:
        said.append(f"Of {listed(alike)} {n} examples show no such difference.")
    if told:
        said.append(f"{listed(told)}: other circuits than that of {found.tuned}, beyond noise.")
    return " ".join(said)


def _row(one: Overlap, found: AdapterCircuits, crossed: CrossEvaluation) -> list[str]:
    shared, whole = one.middle.edge_jaccard, one.weighted_jaccard
    return [
        f"{one.model} (control)" if one.model == found.base else one.model,
        signed(shared.between),
        signed(shared.within),
        estimate(shared.gap),
        "another circuit" if shared.below_ceiling else "not shown",
        estimate(whole.gap),
        "other scores" if whole.below_ceiling else "not shown",
        estimate(crossed.f(found.tuned, one.model)),
        estimate(crossed.f(one.model, found.tuned)),
    ]
