"""Sentences about comparisons, from objects made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

from circuits.comparison import CrossEvaluation
from circuits.comparison.cross_evaluation import Row
from circuits.graph.provenance import DataRecord
from circuits.report import narrative
from circuits.report.run import Run
from circuits.statistics.estimate import Estimate


def cross_evaluated(behind: Estimate) -> CrossEvaluation:
    """Two models; the last circuit is behind the first model's own by so much."""
    f = (Estimate(0.8, 0.7, 0.9, 20), Estimate(0.5, 0.4, 0.6, 20))
    none = Estimate(0.0, 0.0, 0.0, 20)
    return CrossEvaluation(
        metric="logit-difference",
        data=DataRecord(task="ioi", split="test", n=20, fingerprint="7e57"),
        pairs=("a",) * 20,
        n=20,
        circuits=("base", "step-9"),
        sizes=(40, 40),
        rows=(
            Row("base", 2.0, -1.0, f, (none, behind), none),
            Row("step-9", math.nan, math.nan, undefined="the metric is 0 on both"),
        ),
    )


def test_a_circuit_in_another_model_is_behind_ahead_or_not_told_apart() -> None:
    reaches = "In base, the circuit of step-9 reaches 0.50 [0.40, 0.60]"
    for behind, said in (
        (Estimate(0.3, 0.1, 0.5, 20), "behind its own circuit by 0.30 [0.10, 0.50]."),
        (Estimate(-0.3, -0.5, -0.1, 20), "ahead of its own circuit by 0.30 [0.10, 0.50]."),
        (
            Estimate(0.3, -0.1, 0.7, 20),
            "which cannot be distinguished from its own circuit (behind by 0.30 [-0.10, 0.70]).",
        ),
    ):
        text = narrative.cross_evaluation(cross_evaluated(behind))
        assert f"{reaches}, {said}" in text
        assert "In its own model each circuit reaches 0.80 [0.70, 0.90] at base." in text
        assert text.endswith("At step-9 f is undefined.")


def test_a_model_without_a_circuit_of_its_own_is_held_against_none() -> None:
    found = cross_evaluated(Estimate(0.3, 0.1, 0.5, 20))
    row = replace(found.rows[0], behind=None)
    text = narrative.cross_evaluation(found.model_copy(update={"rows": (row,)}))
    assert "the circuit of step-9 reaches 0.50 [0.40, 0.60]." in text
    assert "own circuit" not in text


def test_counts_and_turnover_of_a_comparison_are_those_of_its_objects(run: Run) -> None:
    overall = run.comparison.overall
    text = narrative.comparison(overall)
    edges, size = overall.edges, overall.middle
    assert (
        f"{len(edges.changed)} of {edges.tested} edges ({edges.risen} rose, {edges.fallen} fell)"
        in text
    )
    assert edges.risen + edges.fallen == len(edges.changed) > 0
    assert f"Jaccard index of circuits of {size.size} edges" in text
    undefined = Estimate(math.nan, math.nan, math.nan, 24)
    still = replace(size, rewired_share=replace(size.rewired_share, estimate=undefined))
    text = narrative.comparison(replace(overall, sizes=(still,)))
    assert "No edge of the circuit was added or removed." in text
