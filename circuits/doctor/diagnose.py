"""The checks in their order, and how they are run."""

from __future__ import annotations

from collections.abc import Iterator

from circuits.doctor import machine, packages
from circuits.doctor.diagnosis import Check, Diagnosis, Finding
from circuits.doctor.selftest import selftest

CHECKS = (
    Check("python", machine.python),
    Check("circuits", packages.distribution_found),
    Check("packages", packages.requirements),
    Check("extras", packages.extras),
    Check("models", packages.models),
    Check("device", machine.device),
    Check("memory", machine.memory),
    Check("disk", machine.disk),
    Check("hub", machine.hub),
    Check("self-test", selftest),
)


def looked_at(checks: tuple[Check, ...] = CHECKS) -> Iterator[tuple[str, Finding]]:
    """What each check finds, one after the other; an error is a finding too.

    Args:
        checks: what to look at.

    Yields:
        Names and findings.
    """
    for check in checks:
        try:
            finding = check.look()
        except Exception as error:
            message = " ".join(str(error).split())
            finding = Finding("failed", f"{type(error).__name__}: {message}")
        yield check.name, finding


def diagnose() -> Diagnosis:
    """Look over the installation; takes about ten seconds and no network.

    Returns:
        What was found: environment, packages and their conflicts, device, memory, disk, the hub's
        cache, optional parts, and whether the embedded model gives the scores that it should.
    """
    return Diagnosis(dict(looked_at()))
