"""How to make this report again: recipe, environment, fingerprints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from circuits.format import count
from circuits.report.blocks import Block, Code, Table, Text
from circuits.report.run import Run
from circuits.runs import MissingResultError


def recipe(run: Run) -> Iterator[Block]:
    """The recipe as it was resolved."""
    yield Text(
        Markup(
            "Every figure above carries its own account, folded away under it. The recipe below "
            "holds every setting, defaults filled in; saved as a file, <code>circuits run "
            "recipe.yaml</code> makes the run again."
        )
    )
    yield Code("recipe.yaml, as resolved", run.recipe)


def environment(run: Run) -> Iterator[Block]:
    """Versions and machine, and how long each stage took."""
    found = run.json("environment.json")
    machine = {name: value for name, value in found.items() if not isinstance(value, Mapping)}
    rows = [[name, str(value)] for name, value in (machine | _of(found, "versions")).items()]
    yield Table(caption="Where it ran, and on what versions.", head=["", ""], views={"": rows})
    seconds = _of(found, "seconds")
    if seconds:
        longest = sorted(seconds.items(), key=lambda item: -float(item[1]))
        total = sum(float(value) for value in seconds.values())
        yield Table(
            caption=f"Time by stage, {count(total)} s in all.",
            head=["stage", "seconds"],
            views={"": [[name, f"{float(value):.1f}"] for name, value in longest]},
        )


def fingerprints(run: Run) -> Iterator[Block]:
    """What identifies the models and the data."""
    rows = []
    for name, scores in run.scores.items():
        made = scores.provenance
        for what, part in (("model", made.model), ("data", made.data)):
            if part is not None:
                rows.append([name, what, part.fingerprint])
    if not rows:
        raise MissingResultError("the score files hold no fingerprints.")
    yield Table(
        caption="Fingerprints: hashes of the weights and of the pairs that edges were scored on.",
        head=["checkpoint", "of", "fingerprint"],
        views={"": rows},
    )


def _of(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = found.get(key)
    return dict(part) if isinstance(part, Mapping) else {}
