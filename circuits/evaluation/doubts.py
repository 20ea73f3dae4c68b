"""What a reviewer asks of a circuit, each question with its answer in a line."""

from __future__ import annotations

from collections.abc import Iterator

from circuits.evaluation.minimality import Minimality
from circuits.evaluation.results import (
    OWN,
    CheckpointEvaluation,
    CircuitEvaluation,
    Undefined,
)
from circuits.evaluation.stability_verdict import stability_verdict
from circuits.format import p_value
from circuits.statistics.estimate import Estimate


def doubts(evaluation: CircuitEvaluation) -> Iterator[tuple[str, str]]:
    """The questions that were asked.

    Args:
        evaluation: an evaluation.

    Yields:
        What is asked, in a few words, and the answer with its control.
    """
    yield from _accuracy(evaluation)
    yield from _worst(evaluation)
    yield from _stable(evaluation)
    yield from _rivals(evaluation)
    if isinstance(evaluation, CheckpointEvaluation):
        yield from _null_model(evaluation)
    yield from _backups(evaluation)
    yield from _clusters(evaluation)
    yield from _tests(evaluation)


def _accuracy(evaluation: CircuitEvaluation) -> Iterator[tuple[str, str]]:
    condition = evaluation.robustness.get(OWN)
    if condition is not None and condition.accuracy is not None:
        right = condition.accuracy
        yield (
            "accuracy",
            f"{right.circuit}; the model {right.model}, corrupted {_short(right.corrupted)}, a "
            f"random circuit {_short(right.control)}",
        )


def _worst(evaluation: CircuitEvaluation) -> Iterator[tuple[str, str]]:
    worst = evaluation.worst
    if worst is None:
        return
    row, share = worst.rows[0]
    yield (
        "worst tenth of the examples",
        f"the circuit keeps {worst.worst} of the behaviour on these {worst.n_worst} (a random one "
        f"{worst.control}). It keeps less than half on {worst.below_half:.0%} of all examples, and "
        f"least on {row}: {share:.2f}",
    )


def _stable(evaluation: CircuitEvaluation) -> Iterator[tuple[str, str]]:
    verdict = stability_verdict(evaluation)
    if verdict is not None:
        yield "stability elsewhere", str(verdict)


def _rivals(evaluation: CircuitEvaluation) -> Iterator[tuple[str, str]]:
    others = evaluation.rivals
    if others is None:
        return
    if isinstance(others, Undefined):
        yield "another circuit", others.undefined_reason
        return
    rival_list = "; ".join(
        f"{rival.multiple} x the size: {rival.size} in it, f {rival.f}, |1 - f| larger by "
        f"{rival.gap}"
        for rival in others.rivals
    )
    least = others.smallest
    verdict = (
        "none of these sizes is as faithful"
        if least is None
        else f"one of size {least.size} may be as faithful; {least.shared_nodes:.0%} of its heads "
        "and MLPs are in the circuit too"
    )
    yield "another circuit that shares nothing with it", f"{verdict} ({rival_list})"


def _null_model(evaluation: CheckpointEvaluation) -> Iterator[tuple[str, str]]:
    null = evaluation.null_model
    if null is None:
        return
    theirs = ", ".join(f"{draw.circuit} (random {_short(draw.control)})" for draw in null.draws)
    verdict = "" if null.beaten else "the circuit is not shown to do better: "
    yield (
        f"a model of {null.weights} weights",
        f"{verdict}f by KL divergence {null.circuit} (random {_short(null.control)}) against "
        f"{theirs}; difference {null.difference}",
    )


def _backups(evaluation: CircuitEvaluation) -> Iterator[tuple[str, str]]:
    backups = evaluation.backups
    if backups is None:
        return
    if isinstance(backups, Undefined):
        yield "backups", backups.undefined_reason
        return
    named = ", ".join(
        f"{backup.name} (f falls by {_short(backup.after)} without it, by "
        f"{_short(backup.alone)} in the whole model)"
        for backup in backups.found
    )
    rest = f"the model without the circuit keeps f {backups.rest}"
    if not named:
        yield "backups", f"{rest}; no node was found that takes over"
        return
    yield (
        "backups",
        f"{named}; {rest}, without these as well {backups.without} (random nodes "
        f"{backups.control})",
    )


def _clusters(evaluation: CircuitEvaluation) -> Iterator[tuple[str, str]]:
    groups = evaluation.clusters
    if groups is None:
        return
    figures = (
        f"within two groups {groups.within:.0%} of the variance is left; where there is only one "
        f"group it would be {groups.expected:.0%}; {p_value(groups.p)}, {groups.n} examples"
    )
    if not groups.has_groups:
        yield "groups of prompts", f"no more than one group is shown ({figures})"
        return
    telling = ", ".join(name for name, *_ in groups.telling[:3])
    first, second = groups.sizes
    yield (
        "groups of prompts",
        f"two, of {first} and {second}; they differ most in {telling} ({figures})",
    )


def _tests(evaluation: CircuitEvaluation) -> Iterator[tuple[str, str]]:
    tests = evaluation.tests
    if tests is None:
        return
    equivalence, independence = tests.equivalence, tests.independence
    yield (
        "test of equivalence",
        f"{_verdict(equivalence.rejected)}: the circuit is above the model on {equivalence.above} "
        f"examples and below it on {equivalence.below}, {p_value(equivalence.p)}",
    )
    yield (
        "test of independence",
        f"{_verdict(independence.rejected)}: the model without the circuit keeps f "
        f"{independence.rest:.3f}, {p_value(independence.p)}",
    )
    lean = evaluation.minimality
    if isinstance(lean, Minimality) and lean.test is not None:
        yield (
            "test of minimality",
            f"{_verdict(lean.test.rejected)}: {len(lean.test.needless)} of {len(lean.drops)} edges "
            f"matter no more than those of {lean.test.n_paths} random paths",
        )


def _verdict(rejected: bool) -> str:
    return "rejected, so the circuit is not ideal" if rejected else "not rejected"


def _short(value: Estimate) -> str:
    return f"{value.value:.2f}"
