"""Write docs/settings.md, the table of every setting, from the dataclasses that declare them."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import circuits.options
from circuits.options.declared import Options, Sensible
from circuits.options.listing import settings
from circuits.runtime.files import write_text

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"
_MORE = (
    "circuits.evaluation.ranking",
    "circuits.evaluation.faithfulness",
    "circuits.evaluation.positive_ratio",
    "circuits.cli.options",
    "circuits.pipeline.recipe",
)
"""Modules outside of circuits.options that declare settings."""
_HEAD = """# Every setting

Made from the dataclasses by `python scripts/settings_table.py`; do not edit it by hand.

In Python a setting is a field of the dataclass that stands above its table. On the command line it
is a flag (`batch_size` is `--batch-size`; `circuits VERB --help` says which verb has it), and in a
recipe a key. A dataclass that builds on another has the settings of that one too. "none" as the
default means that the value is found by itself, or that the question is left out, as the sentence
says.

"sensible" says which numbers a page has a reason for, mostly a measurement; "why" leads there. It
is advice: other valid numbers are taken too. "-" means that no page has a reason for a number.
"""


def page() -> str:
    """The document."""
    sections = [_HEAD]
    for module in _modules():
        kinds = [*_declared(module)]
        if any(settings(kind) for kind in kinds):
            title = (inspect.getdoc(module) or "").partition("\n\n")[0].rstrip(".")
            sections.append(f"## {' '.join(title.split())}\n")
            sections += [_section(kind) for kind in kinds]
    return "\n".join(sections)


def _modules() -> Iterator[ModuleType]:
    names = [module.name for module in pkgutil.iter_modules(circuits.options.__path__)]
    for name in [*(f"circuits.options.{module_name}" for module_name in names), *_MORE]:
        yield importlib.import_module(name)


def _declared(module: ModuleType) -> Iterator[type[Options]]:
    """The dataclasses of a module, in the order that it declares them."""
    for kind in vars(module).values():
        is_options = isinstance(kind, type) and issubclass(kind, Options) and kind is not Options
        if is_options and kind.__module__ == module.__name__:
            yield kind


def _section(kind: type[Options]) -> str:
    summary = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
    bases = [base.__name__ for base in kind.__bases__ if base is not Options]
    base_note = (
        f" Also the settings of {' and '.join(f'`{base}`' for base in bases)}." if bases else ""
    )
    lines = [f"### `{kind.__name__}`\n", f"{summary}{base_note}\n"]
    rows = settings(kind)
    if rows:
        lines += ["| setting | default | valid | sensible | meaning |", "|---|---|---|---|---|"]
        lines += [
            f"| `{row.name}` | {_cell(row.default)} | {row.valid} | {_advice(row.sensible)} "
            f"| {_filled(row.meaning)} |"
            for row in rows
        ]
        lines.append("")
    return "\n".join(lines)


def _cell(default: str | None) -> str:
    return "must be given" if default is None else default


def _advice(sensible: Sensible | None) -> str:
    return "-" if sensible is None else f"{sensible} ([why]({sensible.page}))"


def _filled(meaning: str) -> str:
    return meaning.replace("{methods}", "a name of `circuits.attribution.METHODS`").replace(
        "|", "\\|"
    )


def main() -> None:
    """Write the document, or say with --check whether it is what the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where old")
    if parser.parse_args().check:
        raise SystemExit(int(DOCUMENT.read_text(encoding="utf-8") != page()))
    write_text(DOCUMENT, page())


if __name__ == "__main__":
    main()
