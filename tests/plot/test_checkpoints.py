"""Figures of a comparison of checkpoints show its own numbers."""

from __future__ import annotations

import pytest
import torch

from circuits.plot.figures.comparison import turnover_bars
from circuits.plot.figures.trajectory import (
    Line,
    inclusion_bars,
    inclusion_raster,
    trajectory_lines,
)
from circuits.runs import RunFolder
from circuits.statistics.estimate import Estimate


def test_turnover_bars_stand_on_each_other(opened: RunFolder) -> None:
    """The upper bar ends at 1 - Jaccard, and the error bar has that interval."""
    overall = opened.comparison.overall
    lower, upper, _, swapped = turnover_bars([overall], 1)["data"]
    for index, size in enumerate(overall.sizes):
        shared = size.edge_jaccard
        for bar, side in ((upper, shared.estimate), (swapped, shared.permuted)):
            top = bar["base"][index] + bar["y"][index]
            assert top == pytest.approx(1 - side.value, abs=1e-3)
            error = bar["error_y"]
            ends = top - error["arrayminus"][index], top + error["array"][index]
            assert ends == pytest.approx((1 - side.high, 1 - side.low), abs=1e-3)
        assert lower["y"][index] == pytest.approx(size.node_driven.estimate.value, abs=1e-3)


def test_edges_of_the_final_circuit_are_counted_and_ordered(opened: RunFolder) -> None:
    trajectory = opened.comparison.trajectory
    first, stable_from = inclusion_bars(trajectory)["data"]
    assert sum(first["y"]) == sum(stable_from["y"]) == trajectory.size > 0
    cells, rings = inclusion_raster(trajectory)["data"]
    order = [trajectory.checkpoints.index(name) for name in rings["x"]]
    assert order == sorted(order) and len(set(order)) > 1
    shares = torch.tensor(cells["z"])
    assert shares.shape == (len(order), len(trajectory.checkpoints))
    # The ring stands where the means put the edge in, so seldom where resamples leave it out.
    assert float(shares[torch.arange(len(order)), torch.tensor(order)].mean()) > 0.5


def test_steps_that_double_do_not_fall_together() -> None:
    for steps, crowded in (
        ([0, *(2**k for k in range(10))], True),
        (list(range(0, 1100, 100)), False),
        (list(range(11)), False),
        ([0, 1, 10_000], True),
    ):
        names = list(map(str, steps))
        line = Line("a", [Estimate(1.0, 0.0, 2.0, 8)] * len(steps))
        plot = trajectory_lines(names, steps, [line], title="")
        assert (plot["layout"]["xaxis"].get("type") == "category") == crowded, steps
        assert plot["data"][0]["x"] == (names if crowded else steps)


def test_an_undefined_figure_is_a_gap_in_its_line() -> None:
    estimate = Estimate(1.0, 0.5, 2.0, 8)
    (line,) = trajectory_lines(["a", "b"], None, [Line("x", [estimate, None])], title="")["data"]
    assert line["y"] == [1.0, None]
    assert line["error_y"]["array"] == [1.0, 0.0] and line["error_y"]["arrayminus"] == [0.5, 0.0]
