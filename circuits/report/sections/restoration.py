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
    requested = isinstance(diff, dict) and bool(diff.get("restore"))
    if not requested and not (run.folder / "restoration.json").is_file():
        return
    restoration = run.restoration
    n, examples = count(restoration.data.n), f"{run.nouns.example}s"
    yield Heading("Do a few neurons carry it?")
    yield Text(
        f"In {restoration.model} neurons got the activations that {restoration.base} has on the "
        f"same prompts. Of the change of the {restoration.metric}, from "
        f"{estimate(restoration.original)} in {restoration.base} to {estimate(restoration.tuned)}, "
        f"all neurons of all MLPs together undo {estimate(restoration.of('all')[0].undone)}."
    )
    sizes = sorted({neuron_set.size for neuron_set in restoration.sets if neuron_set.kind != "all"})
    yield Table(
        caption="The share of the change that is undone where so many neurons are put back "
        f"together, with 95 % intervals over {n} {examples}. 1: the metric is that of "
        f"{restoration.base}; 0: nothing is undone. Controls are other neurons of the same layers "
        "with the nearest mean activation. Of random sets of the candidates: their mean and range.",
        head=["neurons", "that changed most", "greedy", "random candidates", "controls"],
        views={
            "": [
                [
                    count(size),
                    _one(restoration, "top", size),
                    _one(restoration, "greedy", size),
                    _spread(restoration, size),
                    _one(restoration, "control", size),
                ]
                for size in sizes
            ]
        },
        method=Method(
            steps=(
                "Candidates are the neurons whose mean activation changed most, in units of its "
                "spread over tokens. They, the greedy sets and the controls were chosen on "
                f"{count(restoration.chosen_on.n)} other {examples}. What neurons undo one by one "
                "does not add up to what they undo together.",
            ),
            formula="undone = (fine-tuned - put back) / (fine-tuned - base)",
            settings={"candidates": len(restoration.candidates)},
        ),
    )
    yield Table(
        caption=f"Each candidate by itself, the one that changed most first. Together they undo "
        f"{_one(restoration, 'top', len(restoration.candidates))}; the sum of these shares is "
        f"{signed(sum(neuron_set.undone.value for neuron_set in restoration.of('alone')))}.",
        head=["neuron", "undone"],
        views={
            "": [
                [neuron_set.neurons[0], estimate(neuron_set.undone)]
                for neuron_set in restoration.of("alone")
            ]
        },
    )


def _one(restoration: Restoration, kind: SetKind, size: int) -> str:
    shares = [neuron_set.undone for neuron_set in restoration.of(kind) if neuron_set.size == size]
    return estimate(shares[0]) if shares else MISSING


def _spread(restoration: Restoration, size: int) -> str:
    shares = [
        neuron_set.undone.value
        for neuron_set in restoration.of("random")
        if neuron_set.size == size
    ]
    if not shares:
        return MISSING
    return f"{signed(fmean(shares))} ({signed(min(shares))} to {signed(max(shares))})"
