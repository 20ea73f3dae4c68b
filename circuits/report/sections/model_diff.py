"""How attention, hidden states, neurons and the roles of heads moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from circuits.format import count, estimate, listed, p_value, percent, signed, typeset
from circuits.report.blocks import Block, Figure, Heading, Method, Table, Text
from circuits.report.figures.dots import Dot, Series, dot_panels, dots_height
from circuits.report.figures.model_diff import head_heatmaps, heads_height, layer_dots
from circuits.report.figures.neurons import neuron_dots, neurons_height
from circuits.report.run import Run
from circuits.report.sections import hidden

_BY_LAYER = {
    "Cosine of hidden states": "cosine",
    "Change of the block's update": "update_change",
}
_SETTINGS = ("documents", "split", "n_resamples", "seed")
_NAMED = 6  # heads named in a cell


def inside(run: Run) -> Iterator[Block]:
    """Attention, hidden states, neurons, roles, and the layers that all of them point to."""
    yield Heading("Inside: attention, hidden states and neurons")
    found = run.json("model_diff.json")
    yield from comparison(found)
    yield hidden.magnitudes([found])
    if found.get("path"):
        yield from hidden.path(found["path"])


def comparison(found: Mapping[str, Any]) -> Iterator[Block]:
    """Everything about two models, from `Internals.to_dict`."""
    if found.get("paragraph"):
        yield Text(typeset(found["paragraph"]))
    yield from _heads_and_layers(found)
    if found.get("roles"):
        yield _roles(found)
    if found.get("neurons"):
        changed = any(neuron["change"] for neuron in found["neurons"]["top"])
        yield _neurons(found) if changed else Text("No neuron's mean activation changed.")
    if found.get("critical_layers"):
        yield from _criteria(found["critical_layers"], found)


def _heads_and_layers(found: Mapping[str, Any]) -> Iterator[Block]:
    n = count(found["documents"])
    layers = len(found["kl"]["value"])
    model, base = _names(found)
    pair = f"{model} against {base}"
    yield Figure(
        caption=f"Heads of {pair} on the same {n} documents. Left: how far the attention patterns "
        "are apart. Right: change of their entropy; orange grew sharper, blue more diffuse. Hover "
        "for 95 % intervals.",
        views={"": head_heatmaps(found["kl"], found["entropy_change"])},
        height=heads_height(layers),
        method=Method(
            steps=(
                "Both models read the same clean prompts. Each figure is a mean over the positions "
                "of a document, then over documents.",
            ),
            formula="KL = Σ p log(p / q),  entropy = - Σ p log p,  p and q the attention of "
            f"{model} and {base}",
            settings=_settings(found),
        ),
    )
    shown = {title: found[key] for title, key in _BY_LAYER.items() if key in found}
    if shown:
        yield Figure(
            caption=f"Layer by layer, {pair}, means over {n} documents with 95 % intervals. Left: "
            "cosine of the two hidden states after each block (1: the same direction). Right: "
            "how much the block's own update changed, relative to its size.",
            views={"": layer_dots(shown, ["cosine", "‖change‖ / ‖before‖"][: len(shown)])},
            height=dots_height(1, layers, 2, 26),
            method=Method(
                steps=(
                    "The hidden state after a block carries every earlier change along and only "
                    "moves apart with depth; the block's own update says where the change is made.",
                ),
                settings=_settings(found),
            ),
        )


def _roles(found: Mapping[str, Any]) -> Table:
    model, base = _names(found)
    rows = []
    for name, role in found["roles"].items():
        layer, head = _strongest(role["model"]["value"])
        place = {end: role["model"][end][layer][head] for end in ("value", "low", "high")}
        rows.append(
            [
                name,
                signed(role["chance"]),
                f"a{layer}.h{head}: {estimate(place)}",
                _heads(role["heads_base"]),
                _heads(role["heads"]),
                _heads(role["gained"]),
                _heads(role["lost"]),
                f"{count(role['n'])} {role['unit']}",
            ]
        )
    threshold = next(iter(found["roles"].values()))["threshold"]
    return Table(
        caption="What heads attend to. A head has a role when the attention that it gives to the "
        f"role's tokens exceeds what uniform attention would give by more than {threshold}, at the "
        "lower end of its 95 % interval; it gained or lost one when its attention changed for sure "
        "besides.",
        head=[
            "role",
            "uniform attention",
            f"strongest head of {model}",
            f"heads of {base}",
            f"heads of {model}",
            "gained",
            "lost",
            "n",
        ],
        views={"": rows},
        method=Method(
            steps=(
                "previous-token, self, first-token: from every position but the first. "
                "Beginnings of sentences and paragraphs: from the first of them on. answer: from "
                "the positions that predict the answer to its tokens in the text. induction, "
                "duplicate-token: on random tokens that come twice, from the second copy to the "
                "token after the first copy, and to the first copy.",
            ),
            settings=_settings(found),
            source="Olsson et al. 2022 (induction), Wang et al. 2022 (duplicate-token), "
            "Xiao et al. 2023 (first-token)",
        ),
    )


def _strongest(mass: list[list[float]]) -> tuple[int, int]:
    places = (
        (value, layer, head) for layer, row in enumerate(mass) for head, value in enumerate(row)
    )
    _, layer, head = max(places, key=lambda place: place[0])
    return layer, head


def _heads(names: list[str]) -> str:
    if not names:
        return "none"
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _neurons(found: Mapping[str, Any]) -> Figure:
    neurons = found["neurons"]
    model, base = _names(found)
    shares = neurons["shares"]
    substantial, flipped = (
        f"{percent(share['value'])} [{percent(share['low'])}, {percent(share['high'])}]"
        for share in (shares["substantial"], shares["flipped"])
    )
    top = neurons["top"]
    return Figure(
        caption=f"The {len(top)} neurons of {count(neurons['neurons'])} whose mean activation "
        f"changed most from {base} to {model}, with 95 % intervals over "
        f"{count(neurons['documents'])} documents. {count(neurons['changed'])} changed at a false "
        f"discovery rate of 5 %, {substantial} substantially; {flipped} changed their sign.",
        views={"": neuron_dots(top)},
        height=neurons_height(len(top)),
        method=Method(
            steps=(
                "A neuron is an input of an MLP's output matrix. Its activation is averaged over a "
                "document's positions; the changes are tested over documents (paired t), with "
                "Benjamini and Hochberg's correction over all neurons. Substantially: by at least "
                f"{neurons['substantial_effect']} of the activation's spread over tokens in "
                f"{base} (Glass's delta), a medium effect by Cohen (1988). Intervals of shares "
                "leave out one of ten groups of documents at a time.",
            ),
            settings=_settings(found),
        ),
    )


def _criteria(critical: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Block]:
    layers = critical["layers"]
    depth = len(next(iter(layers.values()))["value"])
    sure: list[Dot] = []
    rest: list[Dot] = []
    for panel, one in enumerate(layers.values()):
        for layer, (value, low, high) in enumerate(
            zip(one["value"], one["low"], one["high"], strict=True)
        ):
            dot = Dot(panel, depth - 1 - layer, value, low, high)
            (sure if layer in one["critical"] else rest).append(dot)
    n = count(found["documents"])
    examples = layers.get("edges", {}).get("examples")
    others = "" if examples is None else f" (edges: {count(examples)} examples)"
    yield Figure(
        caption=f"How much each layer changed, by each criterion, with 95 % intervals over {n} "
        f"documents{others}. Filled: the quarter of the layers that changed most.",
        views={
            "": dot_panels(
                [str(name) for name in layers],
                [f"layer {layer}" for layer in reversed(range(depth))],
                [
                    Series("critical by this criterion", "$negative", sure),
                    Series("other layers", "$control", rest, filled=False),
                ],
                columns=len(layers),
                title="",
                pixels=26,
            )
        },
        height=dots_height(1, depth, len(layers), 26),
        method=Method(
            steps=(
                "attention-kl: mean over heads of KL, nats. entropy: mean over heads of the "
                "absolute change of mean entropy, nats. hidden-state: change of the block's own "
                "update relative to its size. edges: sum of absolute changes of edge scores, half "
                "to each end.",
                "Intervals: symmetric bootstrap-t of means; for entropy and edges, which are sums "
                "of absolute means, the delete-d jackknife on random halves, for what so many "
                "documents or examples give on average, noise included.",
            ),
            settings=_settings(found),
        ),
    )
    rows = [
        [
            f"{listed(one['criteria'])}",
            estimate(one["tau"]),
            p_value(one["p"]),
        ]
        for one in critical["agreement"]
    ]
    yield Table(
        caption=f"Whether the criteria order the {depth} layers alike: Kendall's tau "
        f"(1: the same order, 0: unrelated), interval over {n} documents{others}, and the chance "
        "that random orders agree as well.",
        head=["criteria", "tau", "random orders"],
        views={"": rows},
        method=Method(
            steps=(
                "tau-b over all pairs of layers. Its interval, estimate ± 1.96 bootstrap standard "
                "errors, is for other documents and these layers; p is for the layers: the share "
                "of 9,999 random orders with |tau| as large.",
            ),
            settings=_settings(found),
            source="Kendall 1945",
        ),
    )


def _settings(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in _SETTINGS if name in found}


def _names(found: Mapping[str, Any]) -> tuple[str, str]:
    return str(found["model"]), str(found["against"])
