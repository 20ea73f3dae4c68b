"""The two colour schemes."""

from __future__ import annotations

import plotly.graph_objects as go

from circuits.plot.figures.score_heatmap import score_heatmap
from circuits.plot.palette import DARK, LIGHT, TEMPLATE, resolve
from circuits.runs import RunFolder


def test_plotly_accepts_the_template() -> None:
    for palette in (LIGHT, DARK):
        go.layout.Template(resolve(TEMPLATE, palette))


def test_palettes_name_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()


def test_the_signed_scale_is_centred_at_zero(opened: RunFolder) -> None:
    axis = score_heatmap(opened.scores["base"])["layout"]["coloraxis"]
    assert axis["cmin"] == -axis["cmax"]
    middle = [colour for place, colour in LIGHT["signed"] if place == 0.5]
    assert middle == ["#f7f6f2"]
    places = [place for place, _ in LIGHT["signed"]]
    assert places == sorted(places) and (places[0], places[-1]) == (0, 1)


def test_a_price_is_no_colour() -> None:
    assert resolve(["$", "$5", "$ink", "$ink/22"], LIGHT) == [
        "$",
        "$5",
        LIGHT["ink"],
        LIGHT["ink"] + "22",
    ]
