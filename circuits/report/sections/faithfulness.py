"""How much of the behaviour a circuit keeps, by its size and by checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from circuits.format import MISSING, count, counted, estimate, general, level, percent
from circuits.report.blocks import Block, Figure, Method, Note, Table, Text
from circuits.report.figures.faithfulness import (
    clipped,
    ends_of,
    faithfulness_curves,
    faithfulness_height,
)
from circuits.report.figures.panels import balanced
from circuits.report.run import Run
from circuits.runs import MissingResultError

DEFINITION = "f(C) = (m(C) - m(none)) / (m(model) - m(none))"
BOOTSTRAP = (
    "95 % intervals are bias-corrected and accelerated bootstrap intervals over examples, 1000 "
    "resamples; examples are drawn together for clean, corrupted and circuit runs."
)


def curves(run: Run) -> Iterator[Block]:
    """f by circuit size for every checkpoint."""
    found = {name: one["faithfulness"] for name, one in run.checkpoints.items()}
    if not found:
        raise MissingResultError("evaluation.json evaluates no checkpoint.")
    defined = {name: one for name, one in found.items() if "curves" in one}
    for name, one in found.items():
        if name not in defined:
            yield Note(f"{name}: {one.get('undefined', 'faithfulness is not defined')}")
    if not defined:
        return
    one = next(iter(defined.values()))
    units = f"{level(one)}s"
    yield Text(
        f"Faithfulness f asks how much of the behaviour a circuit keeps when every {level(one)} "
        "outside it carries its corrupted value: 1 is the whole model, 0 the corrupted run. It can "
        f"pass either, since {units} may work against the behaviour."
    )
    columns = balanced(list(found))
    yield Figure(
        caption=f"Faithfulness by circuit size, {counted(len(defined), 'checkpoint')}, metric: "
        f"{one['metric']}, n = {count(one['n'])} examples. Bands: 95 % intervals. Grey: random "
        "rankings, the control. Star: the circuit of this run." + clipped(ends_of(defined)),
        views={
            "": faithfulness_curves(
                found,
                {name: one.get("circuit", {}) for name, one in run.checkpoints.items()},
                columns=columns,
            )
        },
        height=faithfulness_height(len(found), columns),
        method=Method(
            steps=(
                f"At each share the first {units} by the run's rule are kept"
                + (
                    ", pruned to what lies on a path from input to logits, "
                    if level(one) == "edge"
                    else " with what enters the model, "
                )
                + "and the model is run on them; m is the mean metric over the examples. The "
                "random curve is the mean of several random orders.",
                BOOTSTRAP,
            ),
            formula=DEFINITION,
            settings={
                "metric": one["metric"],
                "strategy": one.get("strategy"),
                "shares": ", ".join(f"{share:g}" for share in one["fractions"]),
                "examples": one["n"],
            },
            source="Mueller et al. (2025), MIB: A Mechanistic Interpretability Benchmark, 3.2.",
        ),
    )


def areas(run: Run) -> Iterator[Block]:
    """CPR, CMD and the circuit of the run, with the random control."""
    rows, units = [], "edges"
    for name, one in run.checkpoints.items():
        found = one["faithfulness"]
        if "curves" not in found:
            rows.append([name, *["undefined"] * 4])
            continue
        random, chosen = found["curves"].get("random"), one.get("circuit", {})
        units = f"{level(found)}s"
        rows.append(
            [
                name,
                _over(general(found["metric_clean"]), general(found["metric_corrupted"])),
                _over(estimate(found["cpr"]), estimate(random["area"]) if random else MISSING),
                _over(estimate(found["cmd"]), estimate(random["distance"]) if random else MISSING),
                _over(
                    estimate(chosen.get("faithfulness")),
                    f"{count(chosen[units])} {units}, {percent(chosen['fraction'])}",
                )
                if units in chosen
                else MISSING,
            ]
        )
    yield Table(
        caption="Areas with 95 % intervals. CPR: under f, signed ranking, higher is better. CMD: "
        "under |1 - f|, ranking by |score|, lower is better. "
        + (
            "A random ranking must come out near CPR 0.25 and CMD 0.75. "
            if units == "edges"
            else ""
        )
        + "Last column: f of the circuit of this run.",
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
                f"Trapezoids over the share of {units} kept, on the linear axis, as the benchmark "
                f"defines them; everything below 5 % of the {units} has 7 % of the weight.",
            ),
            formula=f"CPR = ∫ f dk,  CMD = ∫ |1 - f| dk,  k the share of {units} kept",
            source="Mueller et al. (2025), MIB, 3.2.",
        ),
    )


def _over(above: str, below: str) -> Markup:
    """Two lines of a cell."""
    return Markup("{}<small>{}</small>").format(above, below)
