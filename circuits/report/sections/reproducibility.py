"""How to make this report again: recipe, environment, fingerprints."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from circuits.format import count
from circuits.report.blocks import Block, Code, Table, Text
from circuits.report.run import Run
from circuits.runs import MissingResultError


def recipe(run: Run) -> Iterator[Block]:
    """The recipe as it was resolved."""
    yield Text(
        Markup(
            "Under every figure, a fold says how it was computed. The recipe below contains "
            "every setting, with the defaults filled in. Save it as recipe.yaml, and "
            "<code>circuits run recipe.yaml</code> repeats the run."
        )
    )
    yield Code("recipe.yaml, as resolved", run.recipe)


def environment(run: Run) -> Iterator[Block]:
    """Versions and machine, and how long each stage took."""
    record = run.environment
    machine = {
        "python": record.python,
        "platform": record.platform,
        "threads": record.threads,
        "device": record.device,
        **record.versions.model_dump(),
    }
    rows = [[name, str(value)] for name, value in machine.items()]
    yield Table(caption="The machine and the versions of the run.", head=["", ""], views={"": rows})
    if record.seconds:
        longest = sorted(record.seconds.items(), key=lambda item: -item[1])
        yield Table(
            caption=f"Time by stage, {count(sum(record.seconds.values()))} s in all.",
            head=["stage", "seconds"],
            views={"": [[name, f"{seconds:.1f}"] for name, seconds in longest]},
        )


def fingerprints(run: Run) -> Iterator[Block]:
    """What identifies the models and the data."""
    rows = []
    for name, scores in run.scores.items():
        provenance = scores.provenance
        for kind, part in (("model", provenance.model), ("data", provenance.data)):
            if part is not None:
                rows.append([name, kind, part.fingerprint])
    if not rows:
        raise MissingResultError("the score files hold no fingerprints.")
    yield Table(
        caption="Fingerprints: hashes of the weights and of the pairs that edges were scored on.",
        head=["checkpoint", "of", "fingerprint"],
        views={"": rows},
    )
