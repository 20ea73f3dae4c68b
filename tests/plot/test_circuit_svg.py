"""The SVG of a circuit shows the figure's own edges and nodes, and stands alone."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
import torch

from circuits.graph import AnyCircuit, Circuit, Layout, NodeCircuit, Units
from circuits.plot.circuit_svg import circuit_svg
from circuits.plot.figures.circuit_graph import graph_height
from circuits.plot.palette import COLOURS, DARK, LIGHT

SVG = "{http://www.w3.org/2000/svg}"
LAYOUT = Layout(2, 3, 3)
T5 = Layout(2, 2, 2, n_encoder_layers=2)
EDGES = {"input->a0.h1<v>": 2.0, "a0.h1->m1": -0.5, "m1->logits": 1.25}


def scored() -> Circuit:
    circuit = Circuit.of(LAYOUT, EDGES)
    scores = torch.zeros(LAYOUT.shape)
    for edge, score in EDGES.items():
        scores[LAYOUT.edge(edge)] = score
    return Circuit(LAYOUT, circuit.mask, scores)


def parsed(circuit: AnyCircuit) -> ElementTree.Element:
    return ElementTree.fromstring(circuit_svg(circuit))


def titles(svg: ElementTree.Element, kind: str | None) -> list[str]:
    return [g.findtext(f"{SVG}title", "") for g in svg.iter(f"{SVG}g") if g.get("class") == kind]


def test_every_edge_is_drawn_with_its_name_score_and_colour() -> None:
    svg = parsed(scored())
    assert sorted(titles(svg, "edge")) == [
        "a0.h1->m1, score \u22120.5",
        "input->a0.h1<v>, score 2",
        "m1->logits, score 1.25",
    ]
    for group in svg.iter(f"{SVG}g"):
        if group.get("class") == "edge":
            line, reach = group.findall(f"{SVG}path")
            sign = "negative" if "\u2212" in group.findtext(f"{SVG}title", "") else "positive"
            assert line.get("stroke") == LIGHT[sign]
            assert line.get("class") == f"stroke-{sign}"
            assert reach.get("d") == line.get("d") and reach.get("stroke-opacity") == "0"


def test_edges_start_and_end_at_their_nodes() -> None:
    svg = parsed(scored())
    (head,) = [g for g in svg.iter(f"{SVG}g") if g.findtext(f"{SVG}title", "").startswith("a0.h1:")]
    circle = head.find(f"{SVG}circle")
    assert circle is not None
    place = f"{circle.get('cx')},{circle.get('cy')}"
    (edge,) = [g for g in svg.iter(f"{SVG}g") if "a0.h1->m1" in g.findtext(f"{SVG}title", "")]
    assert edge[1].get("d", "").startswith(f"M{place}C")


def test_the_input_is_below_and_the_logits_above() -> None:
    heights = {}
    for group in parsed(scored()).iter(f"{SVG}g"):
        text = group.find(f"{SVG}text")
        if text is not None:
            name = group.findtext(f"{SVG}title", "").partition(":")[0]
            heights[name] = float(text.get("y", "0"))
    order = ["logits", "m1", "a1.h0", "m0", "a0.h2", "input"]
    assert [heights[name] for name in order] == sorted(heights[name] for name in order)
    assert len({heights[name] for name in order}) == len(order)


@pytest.mark.parametrize("layout", [LAYOUT, T5], ids=["decoder", "t5"])
def test_every_node_stands_inside_and_is_named(layout: Layout) -> None:
    svg = parsed(Circuit.full(layout))
    names = [title.partition(":")[0] for title in titles(svg, None)]
    assert sorted(names) == sorted(layout.nodes)
    width, height = (float(svg.get(side, "0")) for side in ("width", "height"))
    assert height == graph_height(layout)
    places = [
        (float(mark.get("cx", "0")), float(mark.get("cy", "0")))
        for mark in svg.iter(f"{SVG}circle")
    ]
    assert len(set(places)) == len(places) > 1
    assert all(0 < x < width and 0 < y < height for x, y in places)
    shapes = {mark.tag.removeprefix(SVG) for mark in svg.iter()}
    assert ("polygon" in shapes) and "circle" in shapes


def test_it_stands_alone_and_has_every_colour_dark_too() -> None:
    text = circuit_svg(scored())
    assert "<script" not in text and "url(" not in text
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    used = set(re.findall(r"(?:fill|stroke)-(\w+)[ \"]", text)) - {"opacity", "width"}
    assert used <= set(COLOURS) and {"paper", "ink", "positive", "negative"} <= used
    dark = text.partition("prefers-color-scheme:dark")[2]
    for name in used:
        assert f".circuits-drawing .stroke-{name}{{stroke:{DARK[name]}}}" in dark


def test_a_circuit_of_neurons_shows_how_much_of_a_node_it_keeps() -> None:
    units = Units(LAYOUT, tuple(4 if name.startswith("m") else 1 for name in LAYOUT.sources))
    circuit = NodeCircuit.of(units, ["input", "a0.h1", "m1[0]", "m1[2]"])
    said = titles(parsed(circuit), None)
    assert "m1: 2 of 4 units kept, score \u2013" in said
    assert "m0: not in the circuit" in said and "a0.h1: score \u2013" in said
    assert titles(parsed(circuit), "edge") == []
