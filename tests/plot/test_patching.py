"""The figure of a patching sweep shows the sweep's own numbers."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import pytest
import torch
from made_sweeps import HEADS, LAYERS, PLACES, made

from circuits.intervention.patching import Axis
from circuits.plot.figures.patching import patching_height, patching_plot
from circuits.plot.palette import DARK, LIGHT, resolve


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
