"""How far the claim holds: faithfulness, minimality, robustness, each beside its control."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from circuits.report.blocks import Block, Figure, Heading, Method, Note, Table, Text
from circuits.report.figures.dots import Dot, Series, dot_panels, dots_height
from circuits.report.figures.faithfulness import (
    HIGHEST,
    LOWEST,
    faithfulness_curves,
    faithfulness_height,
)
from circuits.report.figures.minimality import SHOWN, minimality_dots
from circuits.report.figures.panels import balanced
from circuits.report.numbers import MISSING, count, estimate, general, percent, signed
from circuits.report.run import AbsentError, Run

_CONDITIONS = {"evaluate": "evaluation set", "other-examples": "other examples"}
_DEFINITION = "f(C) = (m(C) - m(none)) / (m(model) - m(none))"
_BOOTSTRAP = (
    "95 % intervals are bias-corrected and accelerated bootstrap intervals over examples, 1000 "
    "resamples; examples are drawn together for clean, corrupted and circuit runs."
)


def curves(run: Run) -> Iterator[Block]:
    """f by circuit size for every checkpoint."""
    found = {name: one["faithfulness"] for name, one in run.checkpoints.items()}
    if not found:
        raise AbsentError("evaluation.json evaluates no checkpoint.")
    defined = {name: one for name, one in found.items() if "curves" in one}
    for name, one in found.items():
        if name not in defined:
            yield Note(f"{name}: {one.get('undefined', 'faithfulness is not defined')}")
    if not defined:
        return
    yield Text(
        "Faithfulness f asks how much of the behaviour a circuit keeps when every edge outside it "
        "carries its corrupted value: 1 is the whole model, 0 the corrupted run. It can pass "
        "either, since edges may work against the behaviour."
    )
    one = next(iter(defined.values()))
    columns = balanced(len(found))
    yield Figure(
        caption=f"Faithfulness by circuit size, {len(defined)} checkpoints, metric: "
        f"{one['metric']}, n = {count(one['n'])} examples. Bands: 95 % intervals. Grey: random "
        "rankings, the control. Star: the circuit of this run. "
        f"The axis ends at {signed(LOWEST, 1)} and {signed(HIGHEST, 1)}.",
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
                "At each share the highest-ranked edges are kept, pruned to what lies on a path "
                "from input to logits, and the model is run on them; m is the mean metric over "
                "the examples. The random curve is the mean of several random rankings.",
                _BOOTSTRAP,
            ),
            formula=_DEFINITION,
            settings={
                "metric": one["metric"],
                "shares": ", ".join(f"{share:g}" for share in one["fractions"]),
                "examples": one["n"],
            },
            source="Mueller et al. (2025), MIB: A Mechanistic Interpretability Benchmark, 3.2.",
        ),
    )


def areas(run: Run) -> Iterator[Block]:
    """CPR, CMD and the circuit of the run, with the random control."""
    rows = []
    for name, one in run.checkpoints.items():
        found = one["faithfulness"]
        if "curves" not in found:
            rows.append([name, *["undefined"] * 4])
            continue
        random, chosen = found["curves"].get("random"), one.get("circuit", {})
        rows.append(
            [
                name,
                _over(general(found["metric_clean"]), general(found["metric_corrupted"])),
                _over(estimate(found["cpr"]), estimate(random["area"]) if random else MISSING),
                _over(estimate(found["cmd"]), estimate(random["distance"]) if random else MISSING),
                _over(
                    estimate(chosen.get("faithfulness")),
                    f"{count(chosen['edges'])} edges, {percent(chosen['share'])}",
                )
                if "edges" in chosen
                else MISSING,
            ]
        )
    yield Table(
        caption="Areas with 95 % intervals. CPR: under f, signed ranking, higher is better. CMD: "
        "under |1 - f|, ranking by |score|, lower is better. A random ranking must come out near "
        "CPR 0.25 and CMD 0.75. Last column: f of the circuit of this run.",
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
                "Trapezoids over the share of edges kept, on the linear axis, as the benchmark "
                "defines them; everything below 5 % of the edges has 7 % of the weight.",
            ),
            formula="CPR = ∫ f dk,  CMD = ∫ |1 - f| dk,  k the share of edges kept",
            source="Mueller et al. (2025), MIB, 3.2.",
        ),
    )


def minimality(run: Run) -> Iterator[Block]:
    """What each edge is worth."""
    yield Heading("Does every edge matter?")
    found = {
        name: one["minimality"] for name, one in run.checkpoints.items() if one.get("minimality")
    }
    if not found:
        raise AbsentError("evaluation.json holds no minimality: the recipe leaves it out.")
    last = list(found)[-1]
    most = max(len(one["falls"]) for one in found.values())
    yield Figure(
        caption="The fall in f when one edge alone is removed from the circuit, with 95 % "
        "intervals; filled where the interval excludes 0 (edge by edge, not corrected for their "
        "number). Grey band: the central 95 % of what random edges from outside do when added "
        f"alone. n = {count(found[last]['faithfulness']['n'])} examples."
        + (f" Of more than {SHOWN} edges, those of the largest |fall| are shown."
           if most > SHOWN else ""),
        views={name: minimality_dots(one) for name, one in found.items()},
        height=430,
        method=Method(
            steps=(
                "The circuit is run without the edge, everything else as it was. Control: edges "
                "from outside, added alone; the size of a change that means nothing.",
                _BOOTSTRAP,
            ),
            formula="fall(e) = f(C) - f(C without e)",
            settings={
                "epsilon": found[last]["epsilon"],
                "control edges": len(found[last]["control"]),
                "examples": found[last]["faithfulness"]["n"],
            },
            source="Wang et al. (2022), Interpretability in the Wild, 4.2.",
        ),
        chosen=last,
    )  # fmt: skip
    yield Table(
        caption="Idle edges: removing (control: adding) them moves f by less than epsilon.",
        head=["checkpoint", "edges", "idle", "control edges", "idle in control", "epsilon"],
        views={
            "": [
                [
                    name,
                    count(len(one["falls"])),
                    percent(one["idle"], 0),
                    count(len(one["control"])),
                    percent(one["control_idle"], 0),
                    general(one["epsilon"]),
                ]
                for name, one in found.items()
            ]
        },
    )


def robustness(run: Run) -> Iterator[Block]:
    """The same circuit on other prompts."""
    yield Heading("Does it hold elsewhere?")
    found = {
        name: one["robustness"] for name, one in run.checkpoints.items() if one.get("robustness")
    }
    if not found:
        raise AbsentError("evaluation.json holds no robustness.")
    rows = list(dict.fromkeys(condition for one in found.values() for condition in one))
    circuits, controls, notes = [], [], []
    for panel, one in enumerate(found.values()):
        for row, condition in enumerate(rows):
            said = one.get(condition)
            if said is None or said["circuit"] is None:
                notes.append((panel, row, "undefined" if said else "not measured"))
                continue
            kept, random = said["circuit"], said["control"]
            circuits.append(Dot(panel, row, kept["value"], kept["low"], kept["high"]))
            if random is not None:
                controls.append(Dot(panel, row, random["value"], random["low"], random["high"]))
    ends = [
        value for dot in (*circuits, *controls) for value in (dot.value, dot.low, dot.high)
        if value is not None
    ]  # fmt: skip
    span = (max(LOWEST, min([0.0, *ends]) - 0.08), min(HIGHEST, max([1.0, *ends]) + 0.08))
    sizes = sorted({said["circuit"]["n"] for one in found.values() for said in one.values()
                    if said["circuit"]})  # fmt: skip
    columns = balanced(len(found))
    yield Figure(
        caption="f of each checkpoint's circuit under other conditions (rows), blue, beside a "
        "random circuit of as many edges, grey; 95 % intervals, "
        f"n = {' to '.join(count(n) for n in (sizes[:1] + sizes[1:][-1:])) or '0'} examples. "
        "The evaluation set has the task's own corruption. "
        f"The axis ends at {signed(LOWEST, 1)} and {signed(HIGHEST, 1)}.",
        views={
            "": dot_panels(
                list(found),
                [_CONDITIONS.get(row, row) for row in rows],
                [
                    Series("random circuit (control)", "$control", controls, "diamond", 0.16, 7),
                    Series("circuit", "$positive", circuits, place=-0.12),
                ],
                columns=columns,
                title="faithfulness f",
                references=(0, 1),
                span=span,
                notes=notes,
            )
        },
        height=dots_height(len(found), len(rows), columns),
        method=Method(
            steps=(
                "The circuit is kept as it was found and run on other pair sets. Each condition "
                "has its own clean and corrupted metric; the corruptions without a wrong answer "
                "use the log-probability of the reference.",
                "Where clean and corrupted metric are equal there is no f; such a condition is "
                "called undefined.",
                _BOOTSTRAP,
            ),
            formula=_DEFINITION,
            settings={
                f"metric, {condition}": said["metric"]
                for condition, said in next(reversed(found.values())).items()
            },
        ),
    )
    for name, one in found.items():
        for condition, said in one.items():
            if said.get("undefined"):
                yield Note(f"{name}, {condition}: {said['undefined']}")


def _over(above: str, below: str) -> Markup:
    """Two lines of a cell."""
    return Markup("{}<small>{}</small>").format(above, below)
