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
    package = import_module("circuits")  # by name: it stands above this package
    folder = Path(str(package.__file__)).parent
    text = f"{package.__version__} in {folder}"
    if (namesake := _installed("circuits")) is not None:
        return Finding(
            "failed",
            f"{text}; PyPI's circuits {namesake.version}, another package of the same import name, "
            f"is installed too: pip uninstall circuits, then install {DISTRIBUTION} again",
        )
    own_distribution = _installed(DISTRIBUTION)
    if own_distribution is None:
        return Finding("note", f"{text}; not installed (pip install -e . in the checkout does it)")
    if own_distribution.version != package.__version__:
        return Finding(
            "note",
            f"{text}, but {DISTRIBUTION} {own_distribution.version} is what pip knows of: install "
            "it again",
        )
    return Finding("ok", text)


def requirements() -> Finding:
    """What this package needs, and what that needs, is there in versions that go together."""
    versions = ", ".join(
        f"{name} {package.version}" for name in _SHOWN if (package := _installed(name))
    )
    if _installed(DISTRIBUTION) is None:
        return Finding(
            "note", f"{versions}; what is needed is known once {DISTRIBUTION} is installed"
        )
    if problems := sorted(set(conflicts(DISTRIBUTION))):
        n_more = len(problems) - _TOLD
        listing = "; ".join([*problems[:_TOLD], *([f"{n_more} more"] if n_more > 0 else [])])
        return Finding("failed", f"{listing} (pip install -U {DISTRIBUTION} mends most)")
    return Finding("ok", f"{versions}; no conflicts")


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
        dependent = _installed(name)
        if dependent is None or (name, extras) in seen:
            continue
        seen.add((name, extras))
        for requirement in _needed(dependent, extras):
            package = _installed(requirement.name)
            if package is None:
                yield f"{name} needs {requirement.name}, which is not installed"
            elif not requirement.specifier.contains(package.version, prereleases=True):
                specification = f"{requirement.name}{requirement.specifier}"
                yield f"{name} needs {specification}, and {package.version} is installed"
            else:
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))


def extras() -> Finding:
    """Optional parts, as pip names them in brackets."""
    from circuits.format import listed

    own_distribution = _installed(DISTRIBUTION)
    if own_distribution is None:
        return Finding("note", f"known once {DISTRIBUTION} is installed")
    installed: list[str] = []
    absent: list[str] = []
    for extra in own_distribution.metadata.get_all("Provides-Extra") or ():
        if extra != _FOR_DEVELOPERS:
            always = {str(requirement) for requirement in _needed(own_distribution, frozenset())}
            needs = [
                requirement
                for requirement in _needed(own_distribution, frozenset([extra]))
                if str(requirement) not in always
            ]
            met = all(_installed(requirement.name) is not None for requirement in needs)
            (installed if met else absent).append(extra)
    parts = [f"here: {listed(installed)}"] if installed else []
    if absent:
        parts.append(f"not here: {listed(absent)} (pip install '{DISTRIBUTION}[{absent[0]}]')")
    return Finding("ok", "; ".join(parts))


def models() -> Finding:
    """Models that come as packages; the embedded one is always there."""
    from circuits.format import listed
    from circuits.models.gguf.sources import PACKAGED

    installed = [
        name
        for name, packaged in PACKAGED.items()
        if all(find_spec(package) is not None for package in packaged.packages)
    ]
    absent = [f"{name} ({PACKAGED[name].install})" for name in PACKAGED if name not in installed]
    available = listed(["newsroom-gpt2", *installed])
    return Finding("ok", f"{available}; not here: {'; '.join(absent)}" if absent else available)


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _needed(dependent: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    """Requirements of a distribution with these extras, on this machine."""
    for text in dependent.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield requirement
