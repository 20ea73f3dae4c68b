"""Whether putting neurons back to what they were in the base undoes fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from circuits.format import MISSING, count, estimate, signed
from circuits.model_diff.restored import Restoration, SetKind
from circuits.report.blocks import Block, Heading, Method, Table, Text
from circuits.report.run import Run


def undone(run: Run) -> Iterator[Block]:
    """Sets of neurons, and how much of fine-tuning each undoes."""
    diff = run.settings.get("model_diff")
    asked = isinstance(diff, dict) and bool(diff.get("restore"))
    if not asked and not (run.folder / "restoration.json").is_file():
        return
    found = run.restoration
    n, examples = count(found.data.n), f"{run.nouns.example}s"
    yield Heading("Do a few neurons carry it?")
    yield Text(
        f"In {found.model} neurons got the activations that {found.base} has on the same prompts. "
        f"Of the change of the {found.metric}, from {estimate(found.original)} in {found.base} to "
        f"{estimate(found.tuned)}, all neurons of all MLPs together undo "
        f"{estimate(found.of('all')[0].undone)}."
    )
    sizes = sorted({one.size for one in found.sets if one.kind != "all"})
    yield Table(
        caption="The share of the change that is undone where so many neurons are put back "
        f"together, with 95 % intervals over {n} {examples}. 1: the metric is that of "
        f"{found.base}; 0: nothing is undone. Controls are other neurons of the same layers with "
        "the nearest mean activation. Of random sets of the candidates: their mean and range.",
        head=["neurons", "that changed most", "greedy", "random candidates", "controls"],
        views={
            "": [
                [
                    count(size),
                    _one(found, "top", size),
                    _one(found, "greedy", size),
                    _spread(found, size),
                    _one(found, "control", size),
                ]
                for size in sizes
            ]
        },
        method=Method(
            steps=(
                "Candidates are the neurons whose mean activation changed most, in units of its "
                "spread over tokens. They, the greedy sets and the controls were chosen on "
                f"{count(found.chosen_on.n)} other {examples}. What neurons undo one by one does "
                "not add up to what they undo together.",
            ),
            formula="undone = (fine-tuned - put back) / (fine-tuned - base)",
            settings={"candidates": len(found.candidates)},
        ),
    )
    yield Table(
        caption=f"Each candidate by itself, the one that changed most first. Together they undo "
        f"{_one(found, 'top', len(found.candidates))}; the sum of these shares is "
        f"{signed(sum(one.undone.value for one in found.of('alone')))}.",
        head=["neuron", "undone"],
        views={"": [[one.neurons[0], estimate(one.undone)] for one in found.of("alone")]},
    )


def _one(found: Restoration, kind: SetKind, size: int) -> str:
    shares = [one.undone for one in found.of(kind) if one.size == size]
    return estimate(shares[0]) if shares else MISSING


def _spread(found: Restoration, size: int) -> str:
    shares = [one.undone.value for one in found.of("random") if one.size == size]
    if not shares:
        return MISSING
    return f"{signed(fmean(shares))} ({signed(min(shares))} to {signed(max(shares))})"
