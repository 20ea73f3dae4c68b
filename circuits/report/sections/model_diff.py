"""How attention, head types, hidden states and neurons moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from circuits.format import count, estimate, listed, p_value, percent, signed, typeset
from circuits.model_diff import ModelDiff
from circuits.model_diff.diff import EDGES
from circuits.model_diff.neurons import NeuronChanges
from circuits.plot.figures.dots import Dot, Series, ValueAxis, dot_panels, dots_height
from circuits.plot.figures.model_diff import head_heatmaps, heads_height, layer_dots
from circuits.plot.figures.neurons import neuron_dots, neurons_height
from circuits.report.blocks import Block, Figure, Heading, Method, Table, Text
from circuits.report.narrative_diff import summary
from circuits.report.run import Run
from circuits.report.sections import hidden
from circuits.statistics.estimate import Estimate

_NAMED = 6  # heads named in a cell


def differences(run: Run) -> Iterator[Block]:
    """Attention, head types, hidden states, neurons, and the layers that all of them point to."""
    yield Heading("Model diff: attention, hidden states and neurons")
    diffs = run.model_diff
    n = count(diffs.comparisons[0].n_documents)
    yield Text(f"On {n} clean prompts of {diffs.task} ({diffs.split}), the same for every model.")
    for diff in diffs.comparisons:
        yield from comparison(diff)
    yield hidden.magnitudes(diffs.comparisons)
    if diffs.trajectory is not None:
        yield from hidden.trajectory(diffs.trajectory)


def comparison(diff: ModelDiff) -> Iterator[Block]:
    """Everything about two models."""
    yield Text(typeset(summary(diff)))
    yield from _heads_and_layers(diff)
    if diff.head_types:
        yield _head_types(diff)
    if diff.neurons is not None:
        changed = any(neuron.change.value for neuron in diff.neurons.top)
        text = Text("No neuron's mean activation changed.")
        yield _neurons(diff, diff.neurons) if changed else text
    yield from _criteria(diff)


def _heads_and_layers(diff: ModelDiff) -> Iterator[Block]:
    n = count(diff.n_documents)
    pair = f"{diff.model} against {diff.base}"
    yield Figure(
        caption=f"Heads of {pair} on the same {n} documents. Left: how far the attention patterns "
        "are apart. Right: the change of their entropy; orange heads became sharper, blue ones "
        "more diffuse. Hover for 95 % intervals.",
        views={"": head_heatmaps(diff.kl, diff.entropy_change)},
        height=heads_height(diff.n_layers),
        method=Method(
            steps=(
                "Both models read the same clean prompts. Each figure is a mean over the positions "
                "of a document, then over documents.",
            ),
            formula="KL = Σ p log(p / q),  entropy = - Σ p log p,  p and q the attention of "
            f"{diff.model} and {diff.base}",
            settings=_settings(diff),
        ),
    )
    measures = {
        "Cosine of hidden states": diff.cosine,
        "Change of the block's update": diff.update_change,
    }
    yield Figure(
        caption=f"Layer by layer, {pair}: means over {n} documents with 95 % intervals. Left: "
        "cosine of the two hidden states after each block (1: the same direction). Right: "
        "how much the block's own update changed, relative to its size.",
        views={"": layer_dots(measures, ["cosine", "‖change‖ / ‖before‖"])},
        height=dots_height(1, diff.n_layers, 2, 26),
        method=Method(
            steps=(
                "The hidden state after a block contains every earlier change, so the models "
                "move apart with depth. The block's own update shows where the change is made.",
            ),
            settings=_settings(diff),
        ),
    )


def _head_types(diff: ModelDiff) -> Table:
    rows = []
    for head_type in diff.head_types:
        layer, head = divmod(int(head_type.model.value.argmax()), head_type.model.value.shape[1])
        rows.append(
            [
                head_type.name,
                signed(head_type.chance),
                f"a{layer}.h{head}: {estimate(head_type.model[layer, head])}",
                _heads(head_type.heads_base),
                _heads(head_type.heads),
                _heads(head_type.gained),
                _heads(head_type.lost),
                f"{count(head_type.n)} {head_type.sample}",
            ]
        )
    threshold = diff.head_types[0].threshold
    return Table(
        caption="What heads attend to. A head has a type if the attention that it gives to the "
        "type's tokens exceeds what uniform attention would give by more than "
        f"{threshold}, at the lower end of its 95 % interval. It gained (lost) a type if it has "
        "the type in only one of the two models and the 95 % interval of the change excludes 0.",
        head=[
            "head type",
            "uniform attention",
            f"strongest head of {diff.model}",
            f"heads of {diff.base}",
            f"heads of {diff.model}",
            "gained",
            "lost",
            "n",
        ],
        views={"": rows},
        method=Method(
            steps=(
                "previous-token, self and first-token are measured from every position but the "
                "first. Starts of sentences and paragraphs are measured from the first start "
                "on. answer is the attention from the positions that predict the answer to its "
                "tokens in the text. induction and duplicate-token are measured on random "
                "tokens that come twice: the attention from the second copy to the token after "
                "the first copy, and to the first copy itself.",
            ),
            settings=_settings(diff),
            source="Olsson et al. 2022 (induction), Wang et al. 2022 (duplicate-token), "
            "Xiao et al. 2023 (first-token)",
        ),
    )


def _heads(names: Sequence[str]) -> str:
    if not names:
        return "none"
    n_more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {n_more} more" if n_more > 0 else "")


def _neurons(diff: ModelDiff, neurons: NeuronChanges) -> Figure:
    substantial = _percent(neurons.substantial_fraction)
    return Figure(
        caption=f"The {len(neurons.top)} neurons of {count(neurons.n_neurons)} whose mean "
        f"activation changed most from {diff.base} to {diff.model}, with 95 % intervals over "
        f"{count(neurons.n_documents)} documents. {count(neurons.n_changed)} changed at a false "
        f"discovery rate of 5 %, {substantial} substantially; {_percent(neurons.flipped_fraction)} "
        "changed their sign.",
        views={"": neuron_dots(neurons.top)},
        height=neurons_height(len(neurons.top)),
        method=Method(
            steps=(
                "A neuron is an input of an MLP's output matrix. Its activation is averaged over a "
                "document's positions; the changes are tested over documents (paired t), with "
                "Benjamini and Hochberg's correction over all neurons. Substantially: by at least "
                f"{neurons.substantial_effect} of the activation's spread over tokens in "
                f"{diff.base} (Glass's delta), a medium effect by Cohen (1988). Intervals of "
                "fractions leave out one of ten groups of documents at a time.",
            ),
            settings=_settings(diff),
        ),
    )


def _percent(fraction: Estimate) -> str:
    interval = f"{percent(fraction.low)}, {percent(fraction.high)}"
    return f"{percent(fraction.value)} [{interval}]"


def _criteria(diff: ModelDiff) -> Iterator[Block]:
    criteria, depth = diff.critical_layers.criteria, diff.n_layers
    critical: list[Dot] = []
    other_layers: list[Dot] = []
    for panel, changes in enumerate(criteria):
        for layer, change in enumerate(changes.values):
            dot = Dot(panel, depth - 1 - layer, change.value, change.low, change.high)
            (critical if layer in changes.critical else other_layers).append(dot)
    n = count(diff.n_documents)
    edges = [changes for changes in criteria if changes.criterion == EDGES]
    edge_note = "".join(f" (edges: {count(changes.values.n)} examples)" for changes in edges)
    yield Figure(
        caption=f"How much each layer changed by each criterion, with 95 % intervals over {n} "
        f"documents{edge_note}. Filled dots are the quarter of the layers that changed most.",
        views={
            "": dot_panels(
                [changes.criterion for changes in criteria],
                [f"layer {layer}" for layer in reversed(range(depth))],
                [
                    Series("critical by this criterion", "$negative", critical),
                    Series("other layers", "$control", other_layers, filled=False),
                ],
                ValueAxis(),
                columns=len(criteria),
                pixels=26,
            )
        },
        height=dots_height(1, depth, len(criteria), 26),
        method=Method(
            steps=(
                "attention-kl is the mean KL over heads, in nats. entropy is the mean over "
                "heads of the absolute change of the mean entropy, in nats. hidden-state is the "
                "change of the block's own update, relative to its size. edges is the sum of "
                "absolute changes of edge scores; half of each counts for the layer of its "
                "source and half for that of its reader.",
                "Intervals of means are symmetric bootstrap-t. entropy and edges are sums of "
                "absolute means; their intervals are delete-d jackknife on random halves, for "
                "the average result of as many documents or examples, with their noise.",
            ),
            settings=_settings(diff),
        ),
    )
    rows = [
        [listed(pair.criteria), estimate(pair.tau), p_value(pair.p)]
        for pair in diff.critical_layers.agreement
    ]
    yield Table(
        caption=f"Do the criteria rank the {depth} layers alike? Kendall's tau (1: the same "
        f"order, 0: unrelated), with its interval over {n} documents{edge_note}, and the "
        "probability that random orders agree as well.",
        head=["criteria", "tau", "random orders"],
        views={"": rows},
        method=Method(
            steps=(
                "The figure is tau-b over all pairs of layers. Its interval (estimate ± 1.96 "
                "bootstrap standard errors) is for other documents and the same layers. p is "
                "the share of 9,999 random orders of the layers with a |tau| as large.",
            ),
            settings=_settings(diff),
            source="Kendall 1945",
        ),
    )


def _settings(diff: ModelDiff) -> dict[str, int]:
    return {"documents": diff.n_documents, "resamples": diff.n_resamples, "seed": diff.seed}
