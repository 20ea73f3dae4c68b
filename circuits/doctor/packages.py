"""Packages: this one, what it needs, what is optional, and what stands in its way."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from circuits.doctor.diagnosis import Finding
from tasks.namesake import DISTRIBUTION

_SHOWN = ("torch", "transformers", "transformer-lens", "numpy")
_FOR_DEVELOPERS = "dev"
_TOLD = 3  # problems that are told; the others are counted


def distribution_found() -> Finding:
    """This package: its version, its place, and whether PyPI's other `circuits` is here too."""
    here = import_module("circuits")  # by name: it stands above this package
    place = Path(str(here.__file__)).parent
    said = f"{here.__version__} in {place}"
    if (other := _installed("circuits")) is not None:
        return Finding(
            "failed",
            f"{said}; PyPI's circuits {other.version}, another package of the same import name, is "
            f"installed too: pip uninstall circuits, then install {DISTRIBUTION} again",
        )
    ours = _installed(DISTRIBUTION)
    if ours is None:
        return Finding("note", f"{said}; not installed (pip install -e . in the checkout does it)")
    if ours.version != here.__version__:
        return Finding(
            "note",
            f"{said}, but {DISTRIBUTION} {ours.version} is what pip knows of: install it again",
        )
    return Finding("ok", said)


def requirements() -> Finding:
    """What this package needs, and what that needs, is there in versions that go together."""
    shown = ", ".join(f"{name} {found.version}" for name in _SHOWN if (found := _installed(name)))
    if _installed(DISTRIBUTION) is None:
        return Finding("note", f"{shown}; what is needed is known once {DISTRIBUTION} is installed")
    if problems := sorted(set(conflicts(DISTRIBUTION))):
        more = len(problems) - _TOLD
        told = "; ".join([*problems[:_TOLD], *([f"{more} more"] if more > 0 else [])])
        return Finding("failed", f"{told} (pip install -U {DISTRIBUTION} mends most)")
    return Finding("ok", f"{shown}; no conflicts")


def conflicts(root: str) -> Iterator[str]:
    """Requirements that are not met, of a distribution and of all that it requires.

    Args:
        root: a distribution that is installed.

    Yields:
        What is missing or of another version, and what requires it.
    """
    waiting: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        asking = _installed(name)
        if asking is None or (name, extras) in seen:
            continue
        seen.add((name, extras))
        for needed in _needed(asking, extras):
            found = _installed(needed.name)
            if found is None:
                yield f"{name} needs {needed.name}, which is not installed"
            elif not needed.specifier.contains(found.version, prereleases=True):
                wanted = f"{needed.name}{needed.specifier}"
                yield f"{name} needs {wanted}, and {found.version} is installed"
            else:
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))


def extras() -> Finding:
    """Optional parts, as pip names them in brackets."""
    from circuits.format import listed

    ours = _installed(DISTRIBUTION)
    if ours is None:
        return Finding("note", f"known once {DISTRIBUTION} is installed")
    here: list[str] = []
    absent: list[str] = []
    for extra in ours.metadata.get_all("Provides-Extra") or ():
        if extra != _FOR_DEVELOPERS:
            always = {str(one) for one in _needed(ours, frozenset())}
            needed = [one for one in _needed(ours, frozenset([extra])) if str(one) not in always]
            met = all(_installed(one.name) is not None for one in needed)
            (here if met else absent).append(extra)
    said = [f"here: {listed(here)}"] if here else []
    if absent:
        said.append(f"not here: {listed(absent)} (pip install '{DISTRIBUTION}[{absent[0]}]')")
    return Finding("ok", "; ".join(said))


def models() -> Finding:
    """Models that come as packages; the embedded one is always there."""
    from circuits.format import listed
    from circuits.models.gguf.sources import PACKAGED

    here = [
        name
        for name, packaged in PACKAGED.items()
        if all(find_spec(package) is not None for package in packaged.packages)
    ]
    absent = [f"{name} ({PACKAGED[name].install})" for name in PACKAGED if name not in here]
    said = listed(["newsroom-gpt2", *here])
    return Finding("ok", f"{said}; not here: {'; '.join(absent)}" if absent else said)


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _needed(asking: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Requirements of a distribution with these extras, on this machine."""
    for text in asking.requires or ():
        needed = Requirement(text)
        marker = needed.marker
        if marker is None or any(marker.evaluate({"extra": one}) for one in (extras or {""})):
            yield needed
