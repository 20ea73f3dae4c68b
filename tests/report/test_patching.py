"""The figure of a patching sweep shows the sweep's own numbers."""

from __future__ import annotations

import json
import math
import re

import plotly.graph_objects as go
import pytest
import torch

from circuits.format import MISSING
from circuits.intervention.patching import Axis, Patching, PatchSpec
from circuits.report.figures.patching import patching_height, patching_plot
from circuits.report.palette import DARK, LIGHT, resolve
from circuits.report.patching import doubt, write_patching, write_patchings

LAYERS = Axis("layer", (0, 1), ("layer 0", "layer 1"))
HEADS = Axis("head", (0, 1), ("h0", "h1"))
PLACES = Axis("position", (0, 1, 2), ("The", "<b>/x", "is…"))


def made(*axes: Axis, direction: str = "denoise", gap: float = 2.0) -> Patching:
    shape = [len(axis.values) for axis in axes]
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(5, *shape, generator=draw).double()
    ends = torch.rand(5, generator=draw).double()
    return Patching(
        site="z",
        direction=direction,
        axes=axes,
        values={"m": values},
        clean={"m": ends + gap},
        corrupted={"m": ends},
        spec=PatchSpec("z", layers=tuple(range(20))),
    )


def of_gaps(gaps: list[float]) -> Patching:
    ends = torch.tensor(gaps).double()
    return Patching(
        site="z",
        direction="denoise",
        axes=(LAYERS,),
        values={"m": torch.full((len(gaps), 2), 0.5).double()},
        clean={"m": ends},
        corrupted={"m": torch.zeros_like(ends)},
    )


@pytest.mark.parametrize("gap", [2.0, 0.0])
@pytest.mark.parametrize("axes", [(LAYERS,), (LAYERS, PLACES), (LAYERS, HEADS, PLACES)])
def test_plotly_accepts_every_shape_in_both_schemes(axes: tuple[Axis, ...], gap: float) -> None:
    found = made(*axes, gap=gap)
    for palette in (LIGHT, DARK):
        go.Figure(resolve(patching_plot(found, "m"), palette))
    assert 150 < patching_height(found) < 900


def test_cells_hold_recovery_when_denoising_and_loss_when_noising() -> None:
    for direction, sign, zero in (("denoise", 1, 0), ("noise", -1, 1)):
        found = made(LAYERS, HEADS, PLACES, direction=direction)
        plot = patching_plot(found, "m")
        z = torch.tensor(plot["data"][0]["z"]).double()
        expected = zero + sign * found.recovery().value.flatten(0, 1)
        assert torch.allclose(z, expected, rtol=1e-3)
        assert plot["layout"]["yaxis"]["ticktext"][1] == "layer 0 h1"
        assert plot["layout"]["xaxis"]["ticktext"] == ["The", "&lt;b&gt;/x", "is…"]
        assert plot["layout"]["coloraxis"]["cmax"] == pytest.approx(float(expected.abs().max()))
        hover = plot["data"][0]["customdata"][1][2]
        recovery = found.recovery()
        ends = sorted(
            f"{abs(zero + sign * float(end[0, 1, 2])):.3f}" for end in (recovery.low, recovery.high)
        )
        assert hover.startswith("<b>layer 0 h1, 2 is…</b>") and all(end in hover for end in ends)
        assert f"m {float(found.mean()[0, 1, 2]):.3g}" in hover and "n = 5" in hover


def test_one_axis_is_drawn_as_dots_with_intervals() -> None:
    found = made(LAYERS)
    trace = patching_plot(found, "m")["data"][0]
    recovery = found.recovery()
    assert trace["x"] == pytest.approx(recovery.value.tolist(), rel=1e-3)
    assert trace["error_x"]["array"] == pytest.approx(
        (recovery.high - recovery.value).tolist(), rel=1e-2
    )


def test_without_a_gap_the_change_itself_is_drawn() -> None:
    for direction in ("denoise", "noise"):
        found = made(LAYERS, PLACES, direction=direction, gap=0.0)
        plot = patching_plot(found, "m")
        change = (found.values["m"] - found.clean["m"][:, None, None]).mean(dim=0)
        assert torch.allclose(torch.tensor(plot["data"][0]["z"]).double(), change, rtol=1e-3)
        bar = plot["layout"]["coloraxis"]["colorbar"]
        assert bar["title"]["text"] == "change of m"


def test_a_site_that_no_example_has_is_blank(tmp_path) -> None:
    found = made(LAYERS, PLACES)
    found.values["m"][:, 1, 2] = math.nan
    found.values["m"][1:, 1, 1] = math.nan
    trace = patching_plot(found, "m")["data"][0]
    assert trace["z"][1][2] is None and trace["z"][1][1] is not None
    alone = trace["customdata"][1][1]
    assert alone.endswith("n = 1") and "[" not in alone and "[" in trace["customdata"][0][0]
    write_patching(found, tmp_path / "page.html", "A <title>", "about")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "A &lt;title&gt;" in page and "0 … 19 (20)" in page
    assert page.count('<th scope="row">z, ') == 5
    assert page.count(f"<td>{MISSING}</td>") == 1  # one example has no interval


def test_one_value_without_end_leaves_the_others_their_colours() -> None:
    found = made(LAYERS, PLACES, gap=0.0)
    found.values["m"][:, 1, 2] = math.inf
    plot = patching_plot(found, "m")
    finite = [one for row in plot["data"][0]["z"] for one in row if one is not None]
    assert len(finite) == len(LAYERS.values) * len(PLACES.values) - 1
    assert plot["layout"]["coloraxis"]["cmax"] == pytest.approx(max(map(abs, finite)), rel=1e-3)
    alone = made(LAYERS, gap=0.0)
    alone.values["m"][:, 1] = math.inf
    assert len(patching_plot(alone, "m")["data"][0]["x"]) == len(LAYERS.values) - 1


def test_several_sweeps_share_a_page(tmp_path) -> None:
    sweeps = {
        "Heads <restored>": made(LAYERS, HEADS),
        "Heads lost": made(LAYERS, HEADS, direction="noise"),
    }
    write_patchings(sweeps, tmp_path / "page.html", "Two", "about")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<h1>") == 1 and page.count("<figure id=") == 2
    assert "Heads &lt;restored&gt;" in page and "Heads lost" in page
    plots = json.loads(re.search(r'id="plots">(.*?)</script>', page, re.S)[1])
    for number, found in enumerate(sweeps.values(), start=1):
        assert (
            plots[f"figure-{number}"]["m"]["data"][0]["z"]
            == patching_plot(found, "m")["data"][0]["z"]
        )
        assert f'id="patching-{number}"' in page and f'href="#patching-{number}"' in page


def test_the_table_says_what_the_figure_shows(tmp_path) -> None:
    for direction, head in (("denoise", "recovered"), ("noise", "lost")):
        found = made(LAYERS, HEADS, direction=direction)
        write_patching(found, tmp_path / "page.html", "A", "about")
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert f'<th scope="col">{head}</th>' in page
        shown = torch.tensor(patching_plot(found, "m")["data"][0]["z"]).flatten()
        row = re.search(
            r'<th scope="row">([^<]*)</th><td>([^<]*)</td><td>\[([^,]*), ([^]]*)\]', page
        )
        value, low, high = (float(row[place].replace("\u2212", "-")) for place in (2, 3, 4))
        assert row[1] == found.name(int(shown.argmax()))
        assert value == pytest.approx(float(shown.max()), abs=1e-3) and low <= value <= high


def test_a_gap_that_may_be_nothing_is_said(tmp_path) -> None:
    gaps = [1.0, 3.0, -2.0, 0.5]
    line = doubt(of_gaps(gaps), "m")
    assert line is not None and "m differs by 0.625 [" in line
    assert line.endswith("which cannot be told apart from 0 with n = 4 examples")
    write_patching(of_gaps(gaps), tmp_path / "page.html", "A", "about")
    assert "n = 4 examples." in (tmp_path / "page.html").read_text(encoding="utf-8")
    more = doubt(of_gaps(gaps * 2), "m")
    assert more is not None and more.endswith("does not tell these prompts apart")
    assert doubt(of_gaps([3.44, 5.38, 5.59, 3.12]), "m") is None, "four gaps clearly above 0"
    assert doubt(of_gaps([0.1]), "m") is None, "one example has no interval"
    undefined = doubt(of_gaps([1.0, -1.0]), "m")
    assert undefined is not None and undefined.startswith("recovery is not defined: m is 0")
