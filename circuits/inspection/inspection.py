"""What is said of a file or folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

_WIDE = 10


@dataclass(frozen=True)
class Inspection:
    """What a file or folder is, and what it says of itself.

    Attributes:
        path: the file or folder.
        what: what it is, in words.
        kind: of a result file, as it names itself.
        schema_version: of a result file.
        model: that it is about, where it says so.
        task: that it is about, where it says so.
        facts: the rest, a few words each, by name.
        problem: why it cannot be read; None where it can.
        parts: what a folder holds.
    """

    path: Path
    what: str
    kind: str | None = None
    schema_version: int | None = None
    model: str | None = None
    task: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    parts: tuple[Inspection, ...] = ()

    @property
    def size(self) -> int:
        """Bytes, of a folder with all in it."""
        if self.path.is_dir():
            return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())
        return self.path.stat().st_size

    @property
    def written(self) -> datetime:
        """When it was last written, by the clock of this place; results hold no date, so that
        equal work gives equal files.
        """
        return datetime.fromtimestamp(self.path.stat().st_mtime).astimezone()

    @property
    def gist(self) -> str:
        """What matters most beside what it is, in brackets; nothing where nothing does."""
        fact = self.problem or next(iter(self.facts.items()), None)
        if isinstance(fact, tuple):
            fact = f"{fact[0]}: {fact[1]}"
        return f" ({fact})" if fact else ""

    def lines(self) -> list[str]:
        """What there is to say, a line each."""
        version = "" if self.schema_version is None else f", schema version {self.schema_version}"
        rows = {
            "kind": None if self.kind is None else f"{self.kind}{version}",
            "model": self.model,
            "task": self.task,
            **self.facts,
            "written": f"{self.written:%Y-%m-%d %H:%M}",
            "size": _bytes(self.size),
            "problem": self.problem,
        }
        wide = max(_WIDE, *map(len, rows))
        lines = [f"{self.path}: {self.what}"]
        lines += [f"  {name:<{wide}}  {value}" for name, value in rows.items() if value]
        return lines + [
            f"  {_within(part.path, self.path)}: {part.what}{part.gist}" for part in self.parts
        ]

    def to_json(self) -> dict[str, object]:
        """The same as JSON values."""
        return {
            "path": str(self.path),
            "what": self.what,
            "kind": self.kind,
            "schema_version": self.schema_version,
            "model": self.model,
            "task": self.task,
            "facts": self.facts,
            "written": self.written.isoformat(timespec="seconds"),
            "size": self.size,
            "problem": self.problem,
            "parts": [part.to_json() for part in self.parts],
        }


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _within(path: Path, folder: Path) -> str:
    name = path.relative_to(folder)
    return f"{name}/" if path.is_dir() else str(name)
