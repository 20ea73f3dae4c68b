"""How much of the behaviour a circuit keeps, by its size and by checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from circuits.evaluation import Faithfulness, Undefined
from circuits.format import MISSING, count, counted, estimate, general, percent
from circuits.options.choices import Level
from circuits.plot.figures.faithfulness import (
    clipped,
    faithfulness_curves,
    faithfulness_height,
    values_of,
)
from circuits.plot.figures.panels import balanced
from circuits.report.blocks import Block, Figure, Method, Note, Table, Text
from circuits.report.run import Run
from circuits.runs import MissingResultError

DEFINITION = "f(C) = (m(C) - m(none)) / (m(model) - m(none))"
BOOTSTRAP = (
    "95 % intervals are bias-corrected and accelerated bootstrap intervals over examples, 1000 "
    "resamples; examples are drawn together for clean, corrupted and circuit runs."
)


def curves(run: Run) -> Iterator[Block]:
    """f by circuit size for every checkpoint."""
    checkpoints = run.evaluation.checkpoints
    if not checkpoints:
        raise MissingResultError("evaluation.json evaluates no checkpoint.")
    faithfulness = {name: checkpoint.faithfulness for name, checkpoint in checkpoints.items()}
    for name, curve in faithfulness.items():
        if isinstance(curve, Undefined):
            yield Note(f"{name}: {curve.undefined_reason}")
    defined = [curve for curve in faithfulness.values() if isinstance(curve, Faithfulness)]
    if not defined:
        return
    first = defined[0]
    level = first.level
    yield Text(
        f"Faithfulness f measures how much of the behaviour a circuit keeps when every {level} "
        "outside it carries its corrupted value: 1 is the whole model, 0 the corrupted run. It "
        f"can be below 0 or above 1, since {level}s may work against the behaviour."
    )
    columns = balanced(list(faithfulness))
    yield Figure(
        caption=f"Faithfulness by circuit size, {counted(len(defined), 'checkpoint')}, metric: "
        f"{first.metric}, n = {count(first.n)} examples. Bands: 95 % intervals. Grey: random "
        "rankings (the control). The star is the circuit of this run."
        + clipped(values_of(defined)),
        views={
            "": faithfulness_curves(
                faithfulness,
                {name: checkpoint.circuit for name, checkpoint in checkpoints.items()},
                columns=columns,
            )
        },
        height=faithfulness_height(len(faithfulness), columns),
        method=Method(
            steps=(
                f"At each fraction, the first {level}s by the run's strategy are kept"
                + (
                    ", pruned to what lies on a path from input to logits, "
                    if level == "edge"
                    else " with what enters the model, "
                )
                + "and the model is run on them. m is the mean metric over the examples. The "
                "random curve is the mean of several random orders.",
                BOOTSTRAP,
            ),
            formula=DEFINITION,
            settings={
                "metric": first.metric,
                "strategy": first.strategy,
                "fractions": ", ".join(f"{fraction:g}" for fraction in first.fractions),
                "examples": first.n,
            },
            source="Mueller et al. (2025), MIB: A Mechanistic Interpretability Benchmark, 3.2.",
        ),
    )


def areas(run: Run) -> Iterator[Block]:
    """CPR, CMD and the circuit of the run, with the random control."""
    rows: list[list[str]] = []
    level: Level = "edge"
    for name, checkpoint in run.evaluation.checkpoints.items():
        faithfulness, circuit = checkpoint.curves, checkpoint.circuit
        if faithfulness is None:
            rows.append([name, *["undefined"] * 4])
            continue
        random, level = faithfulness.curves.get("random"), faithfulness.level
        rows.append(
            [
                name,
                _over(general(faithfulness.metric_clean), general(faithfulness.metric_corrupted)),
                _over(estimate(faithfulness.cpr), estimate(random.area_f) if random else MISSING),
                _over(
                    estimate(faithfulness.cmd), estimate(random.area_abs_gap) if random else MISSING
                ),
                _over(
                    estimate(circuit.faithfulness),
                    f"{count(circuit.size)} {level}s, {percent(circuit.fraction)}",
                ),
            ]
        )
    yield Table(
        caption="Areas with 95 % intervals. CPR is the area under f with the signed ranking; "
        "higher is better. CMD is the area under |1 - f| with the ranking by |score|; lower "
        "is better. "
        + (
            "A random ranking should give a CPR near 0.25 and a CMD near 0.75. "
            if level == "edge"
            else ""
        )
        + "The last column is f of the circuit of this run.",
        head=[
            "checkpoint",
            _over("metric, clean", "corrupted"),
            _over("CPR", "random ranking"),
            _over("CMD", "random ranking"),
            _over("f of the circuit", "its size"),
        ],
        views={"": rows},
        method=Method(
            steps=(
                f"The areas are sums of trapezoids over the fraction of {level}s kept, on a "
                "linear axis, as the benchmark defines them. Fractions below 5 % have 7 % of "
                "the weight.",
            ),
            formula=f"CPR = ∫ f dk,  CMD = ∫ |1 - f| dk,  k the fraction of {level}s kept",
            source="Mueller et al. (2025), MIB, 3.2.",
        ),
    )


def _over(above: str, below: str) -> Markup:
    """Two lines of a cell."""
    return Markup("{}<small>{}</small>").format(above, below)
