"""Does every edge of a circuit matter?"""

from __future__ import annotations

from collections.abc import Iterator

from circuits.format import count, general, percent
from circuits.report.blocks import Block, Figure, Heading, Method, Note, Table
from circuits.report.figures.minimality import SHOWN, minimality_dots
from circuits.report.run import Run
from circuits.report.sections.faithfulness import BOOTSTRAP


def drops(run: Run) -> Iterator[Block]:
    """What each edge is worth."""
    yield Heading("Does every part matter?")
    asked = {
        name: one["minimality"] for name, one in run.checkpoints.items() if one.get("minimality")
    }
    if not asked:
        raise run.unasked("minimality")
    for name, one in asked.items():
        if "undefined" in one:
            yield Note(f"{name}, minimality: {one['undefined']}")
    found = {name: one for name, one in asked.items() if "undefined" not in one}
    if not found:
        return
    last = list(found)[-1]
    units = found[last]["unit"]
    single = units.removesuffix("s")
    most = max(len(one["falls"]) for one in found.values())
    yield Figure(
        caption=f"The fall in f when one {single} alone is removed from the circuit, with 95 % "
        f"intervals; filled where the interval excludes 0 ({single} by {single}, not corrected for "
        f"their number). Grey band: the central 95 % of what random {units} from outside do when "
        f"added alone. n = {count(found[last]['faithfulness']['n'])} examples."
        + (f" Of more than {SHOWN} {units}, those of the largest |fall| are shown."
           if most > SHOWN else ""),
        views={name: minimality_dots(one) for name, one in found.items()},
        height=430,
        method=Method(
            steps=(
                f"The circuit is run without the {single}, everything else as it was. Control: "
                f"{units} from outside, added alone; the size of a change that means nothing.",
                BOOTSTRAP,
            ),
            formula="fall(x) = f(C) - f(C without x)",
            settings={
                "epsilon": found[last]["epsilon"],
                f"control {units}": len(found[last]["control"]),
                "examples": found[last]["faithfulness"]["n"],
            },
            source="Wang et al. (2022), Interpretability in the Wild, 4.2.",
        ),
        chosen=last,
    )  # fmt: skip
    yield Table(
        caption=f"Idle {units}: removing (control: adding) them moves f by less than epsilon.",
        head=["checkpoint", units, "idle", f"control {units}", "idle in control", "epsilon"],
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
