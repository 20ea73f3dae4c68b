from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest
import torch

from circuits.evaluation import Estimate
from circuits.graph import Circuit, Layout
from circuits.report.blocks import Figure
from circuits.report.figures.circuit_graph import circuit_graph, drawn_lines
from circuits.report.figures.faithfulness import faithfulness_curves
from circuits.report.figures.minimality import minimality_dots
from circuits.report.figures.score_heatmap import score_heatmap
from circuits.report.page import SECTIONS
from circuits.report.palette import DARK, LIGHT, TEMPLATE, resolve
from circuits.report.run import Run

T5 = Layout(2, 2, 2, n_encoder_layers=2)
BART = Layout(2, 2, 2, n_encoder_layers=2, bias=True)


@pytest.fixture(scope="module")
def figures(run: Run) -> list[Figure]:
    blocks = [block for section in SECTIONS for part in section.parts for block in part(run)]
    return [block for block in blocks if isinstance(block, Figure)]


def test_plotly_accepts_every_figure_in_both_schemes(figures: list[Figure]) -> None:
    assert len(figures) >= 12
    for figure in figures:
        for plot in figure.views.values():
            for palette in (LIGHT, DARK):
                go.Figure(resolve(plot, palette))


def test_plotly_accepts_the_template() -> None:
    for palette in (LIGHT, DARK):
        go.layout.Template(resolve(TEMPLATE, palette))


def test_palettes_name_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()


def test_every_figure_says_how_it_was_computed(figures: list[Figure]) -> None:
    for figure in figures:
        assert figure.method is not None and figure.method.steps
        assert str(figure.caption).endswith((".", "intervals."))


def test_captions_say_how_many_examples(figures: list[Figure]) -> None:
    counted = re.compile(r"n = \d+|\d+ (examples|documents|held-out|steps)")
    silent = [str(one.caption)[:40] for one in figures if not counted.search(str(one.caption))]
    assert silent == [
        "The circuit of each checkpoint, input at",
        "Left: the layers that each condition ada",
    ]


def test_the_heatmap_shows_the_matrix(run: Run) -> None:
    scores = run.scores["step-300"]
    trace = score_heatmap(scores)["data"][0]
    for row, (values, kept) in enumerate(zip(trace["z"], scores.mask.tolist(), strict=True)):
        for column, (value, there) in enumerate(zip(values, kept, strict=True)):
            if there:
                assert value == pytest.approx(float(scores.matrix[row, column]), rel=6e-3)
            else:
                assert value is None
    assert trace["x"][0] == "a0.h0&lt;q&gt;"
    assert trace["y"][:2] == ["input", "a0.h0"]


def test_the_signed_scale_is_centred_at_zero(run: Run) -> None:
    axis = score_heatmap(run.scores["base"])["layout"]["coloraxis"]
    assert axis["cmin"] == -axis["cmax"]
    middle = [colour for place, colour in LIGHT["signed"] if place == 0.5]
    assert middle == ["#f7f6f2"]
    places = [place for place, _ in LIGHT["signed"]]
    assert places == sorted(places) and (places[0], places[-1]) == (0, 1)


def test_the_graph_draws_every_edge_once(run: Run) -> None:
    circuit = run.circuits["step-300"]
    plot = circuit_graph(circuit)
    paths = [shape for shape in plot["layout"]["shapes"] if shape["type"] == "path"]
    assert len(paths) == len(circuit)
    named = {data[0] for data in plot["data"][-1]["customdata"]}
    assert named == {edge.replace("<", "&lt;").replace(">", "&gt;") for edge in circuit.edges}
    assert circuit.scores is not None
    negative = sum(float(circuit.scores[circuit.layout.edge(edge)]) < 0 for edge in circuit.edges)
    assert sum(path["line"]["color"] == "$negative" for path in paths) == negative


def test_edges_of_the_graph_lead_upwards(run: Run) -> None:
    for shape in circuit_graph(run.circuits["base"])["layout"]["shapes"]:
        if shape["type"] == "path":
            numbers = [float(x) for x in re.findall(r"-?[\d.]+", shape["path"])]
            assert numbers[1] < numbers[3] <= numbers[5] < numbers[7] or numbers[7] > numbers[1]


def test_a_large_circuit_is_cut_to_its_strongest_edges() -> None:
    layout = Layout(6, 12, 4)
    scores = torch.randn(layout.shape, generator=torch.Generator().manual_seed(0)) * layout.mask
    lines = drawn_lines(Circuit(layout, layout.mask, scores), limit=20)
    assert len({(line.source, line.reader) for line in lines}) == 20
    least = min(abs(line.score) for line in lines if line.score is not None)
    assert int((scores.abs() > least).sum()) < 20


def test_a_shared_key_head_is_drawn_into_every_head_of_its_group() -> None:
    layout = Layout(2, 4, 2)
    lines = drawn_lines(Circuit.of(layout, ["m0->a1.kv1<k>"]))
    assert [(line.source, line.target) for line in lines] == [("m0", "a1.h2"), ("m0", "a1.h3")]
    assert circuit_graph(Circuit.of(layout, ["m0->a1.kv1<k>"]))["data"]


@pytest.mark.parametrize("layout", [Layout(3, 4, 2), T5, BART], ids=["decoder", "t5", "bart"])
def test_every_node_of_the_graph_has_a_place_of_its_own(layout: Layout) -> None:
    plot = circuit_graph(Circuit.full(layout))
    traces = plot["data"][:-1]
    places = {place for trace in traces for place in zip(trace["x"], trace["y"], strict=True)}
    assert len(places) == len(layout.nodes) == sum(len(trace["x"]) for trace in traces)
    assert all(-0.7 < y < plot["layout"]["yaxis"]["range"][1] for _, y in places)
    stacks = {"decoder", "encoder"} if layout.n_encoder_layers else {"layer"}
    assert {text.split()[0] for text in plot["layout"]["yaxis"]["ticktext"]} == stacks


def test_the_decoder_reads_the_encoder_from_above() -> None:
    plot = circuit_graph(Circuit.of(BART, ["enc.a1.h0->x0.h1<k>", "bias->m0"]))
    paths = [shape["path"] for shape in plot["layout"]["shapes"] if shape["type"] == "path"]
    assert len(paths) == 2
    for path in paths:
        numbers = [float(x) for x in re.findall(r"-?[\d.]+", path)]
        assert numbers[1] < numbers[7]


def test_a_price_is_no_colour() -> None:
    assert resolve(["$", "$5", "$ink", "$ink/22"], LIGHT) == [
        "$",
        "$5",
        LIGHT["ink"],
        LIGHT["ink"] + "22",
    ]


def test_curves_carry_the_values_of_the_file(run: Run) -> None:
    checkpoints = run.evaluation.checkpoints
    found = {name: one.faithfulness for name, one in checkpoints.items()}
    circuits = {name: one.circuit for name, one in checkpoints.items()}
    plot = faithfulness_curves(found, circuits)
    lines = [t for t in plot["data"] if t.get("name") == "ranked by |score|"]
    assert len(lines) == len(found)
    for line, one in zip(lines, checkpoints.values(), strict=True):
        curve = one.curves.curves["absolute"]
        assert tuple(line["x"]) == curve.fractions
        assert line["y"] == pytest.approx([value.value for value in curve.values], rel=1e-3)
    assert sum(trace.get("showlegend", True) for trace in plot["data"]) == 4
    (alone,) = faithfulness_curves({"a": found["base"]}, columns=1)["layout"]["annotations"]
    assert alone["text"] == "<b>a</b>"


def test_minimality_tells_sure_drops_from_others(run: Run) -> None:
    found = run.evaluation.last.minimality
    sure, unsure, *_ = minimality_dots(found)["data"]
    drops = list(found.drops.values())
    assert len(sure["x"]) + len(unsure["x"]) == len(drops)
    assert len(sure["x"]) == sum(drop.low > 0 or drop.high < 0 for drop in drops)


def test_the_band_of_the_control_is_its_central_95_percent(run: Run) -> None:
    control = {f"e{place}": Estimate(place / 40, 0.0, 1.0, 9) for place in (39, *range(39), 40)}
    found = replace(run.evaluation.last.minimality, control=control)
    band = minimality_dots(found)["layout"]["shapes"][0]
    assert (band["y0"], band["y1"]) == pytest.approx((0.025, 0.975))


def test_colours_are_names_of_the_palette(figures: list[Figure]) -> None:
    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for item in value.values() for text in strings(item)]
        if isinstance(value, list | tuple):
            return [text for item in value for text in strings(item)]
        return [value] if isinstance(value, str) else []

    for figure in figures:
        for plot in figure.views.values():
            for text in strings(plot):
                assert not re.fullmatch(r"#[0-9a-f]{3,8}", text)
