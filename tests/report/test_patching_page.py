"""The figure of a patching sweep shows the sweep's own numbers."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from made_sweeps import HEADS, LAYERS, PLACES, made, of_gaps

from circuits.format import MISSING
from circuits.plot.figures.patching import patching_plot
from circuits.report.patching_page import doubt, write_patching, write_patchings


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
    assert line.endswith("which n = 4 examples cannot distinguish from 0")
    write_patching(of_gaps(gaps), tmp_path / "page.html", "A", "about")
    assert "which n = 4 examples cannot distinguish from 0." in (tmp_path / "page.html").read_text(
        encoding="utf-8"
    )
    more = doubt(of_gaps(gaps * 2), "m")
    assert more is not None and more.endswith("does not distinguish these prompts")
    assert doubt(of_gaps([3.44, 5.38, 5.59, 3.12]), "m") is None, "four gaps clearly above 0"
    assert doubt(of_gaps([0.1]), "m") is None, "one example has no interval"
    undefined = doubt(of_gaps([1.0, -1.0]), "m")
    assert undefined is not None and undefined.startswith("recovery is not defined: m is 0")
