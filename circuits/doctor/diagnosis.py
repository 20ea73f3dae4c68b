"""What looking over an installation finds: a line a check.

Plain dataclasses that import nothing: where torch is broken, they still say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "note", "failed"]
"""note: something is missing that not everybody needs. failed: the package will not work so."""


@dataclass(frozen=True)
class Finding:
    """What a check found.

    status: whether it is as it should be. said: what was found, and what to do about it, in a line.
    """

    status: Status
    said: str


@dataclass(frozen=True)
class Check:
    """Something that is looked at.

    name: in a word. look: looks at it; what it raises counts as failed.
    """

    name: str
    look: Callable[[], Finding]


@dataclass(frozen=True)
class Diagnosis:
    """What all checks found, by the check's name."""

    findings: dict[str, Finding]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(name for name, finding in self.findings.items() if finding.status == "failed")

    def lines(self) -> list[str]:
        """A line a check, and one on all of them."""
        wide = max(map(len, self.findings), default=0)
        lines = [
            f"{finding.status:<6}  {name:<{wide}}  {finding.said}"
            for name, finding in self.findings.items()
        ]
        if not self.failed:
            return [*lines, "all is well"]
        return [*lines, f"to be mended: {', '.join(self.failed)}"]

    def to_json(self) -> dict[str, object]:
        """JSON values: whether all is well, and the findings by the check's name."""
        return {"ok": not self.failed, "findings": asdict(self)["findings"]}
