"""The pages of the Python reference: one for each package, with every public name in it.

Public is what `circuits` and `tasks` list in `__all__`, and what a package below `circuits` lists
in its own. Each name is shown once, with the package that it comes from.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import circuits
import tasks

FOLDER = "reference/python"
_HIDDEN = {"cli", "report"}
"""Packages without names for users: the verbs are on a page of their own, the report is a file."""
_BARE = {"plot"}
"""Names of `circuits` that are packages."""


def pages() -> dict[str, str]:
    """Every page of the Python reference.

    Returns:
        Markdown by path among the site's sources, the index first.
    """
    names_of = _names()
    contents = {f"{FOLDER}/index.md": _index(names_of)}
    for package, names in names_of.items():
        contents[f"{FOLDER}/{_short(package)}.md"] = _page(package, names)
    return contents


def _names() -> dict[str, list[str]]:
    """Public names by package, in the order of the alphabet."""
    names_of: dict[str, set[str]] = {"circuits": set(), "tasks": set(tasks.__all__)}
    for module in pkgutil.iter_modules(circuits.__path__, "circuits."):
        if module.ispkg and _short(module.name) not in _HIDDEN:
            exported = getattr(importlib.import_module(module.name), "__all__", ())
            names_of[module.name] = set(exported) - set(circuits.__all__)
    for name in set(circuits.__all__) - _BARE:
        home = circuits._HOME_OF.get(name, "circuits")
        names_of[".".join(home.split(".")[:2])].add(name)
    return {package: sorted(names, key=str.lower) for package, names in names_of.items() if names}


def _short(package: str) -> str:
    return package.rpartition(".")[2]


def _page(package: str, names: list[str]) -> str:
    lines = [f"# {package}", "", _summary(importlib.import_module(package)), ""]
    for name in names:
        lines += [
            f"::: {_home(package, name)}",
            "    options:",
            f"      heading: {_shown(package, name)}",
            f"      toc_label: {name}",
            "",
        ]
    return "\n".join(lines)


def _index(names_of: dict[str, list[str]]) -> str:
    lines = [
        "# Python",
        "",
        "Every public name with its arguments, units and sign, made from the docstrings. What",
        "stands below as `circuits.NAME` is loaded when first used, so `import circuits` is quick.",
        "",
        "| package | what it is for | names |",
        "|---|---|---|",
    ]
    for package, names in names_of.items():
        summary = _summary(importlib.import_module(package)).replace("|", "\\|")
        page = f"{_short(package)}.md"
        links = ", ".join(f"[`{name}`]({page}#{_home(package, name)})" for name in names)
        lines.append(f"| [`{package}`]({_short(package)}.md) | {summary} | {links} |")
    return "\n".join([*lines, ""])


def _shown(package: str, name: str) -> str:
    """How a user writes the name."""
    return f"{'circuits' if name in circuits.__all__ and package != 'tasks' else package}.{name}"


def _home(package: str, name: str) -> str:
    """Where the name is defined, so that a module of the same name is not taken for it."""
    value = getattr(importlib.import_module(_shown(package, name).rpartition(".")[0]), name)
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__qualname__}"
    return _shown(package, name)


def _summary(module: ModuleType) -> str:
    return " ".join((inspect.getdoc(module) or "").partition("\n\n")[0].split())
