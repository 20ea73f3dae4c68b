"""Draw docs/layers.svg: the packages and the way that imports go, as import-linter checks it."""

from __future__ import annotations

import argparse
import importlib
import inspect
import tomllib
from pathlib import Path

from circuits.runtime.files import write_text

ROOT = Path(__file__).parents[1]
FIGURE = ROOT / "docs" / "layers.svg"
WIDTH, ROW, NAMES = 760, 30, 250


def layers() -> list[list[str]]:
    """Packages by layer, the top one first; those of one layer do not import one another."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = (entry for entry in contracts if entry["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def figure() -> str:
    """The drawing: a row for each layer with what its packages are for, and one for `tasks`."""
    rows = layers()
    height = ROW * (len(rows) + 2) + 20
    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="The packages in layers; imports go down" font-family="sans-serif" '
        'font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#fbfbf8"/>',
        '<path d="M18 22V{0}M13 {1}L18 {0}L23 {1}" fill="none" stroke="#c2631c"/>'.format(
            10 + ROW * len(rows), 2 + ROW * len(rows)
        ),
    ]
    for index, row in enumerate(rows):
        elements += _row(index, row, " ".join(_said(f"circuits.{name}") for name in row))
    elements += _row(len(rows) + 0.6, ["tasks"], _said("tasks") + " Imports nothing of circuits.")
    return "\n".join([*elements, "</svg>\n"])


def _row(position: float, names: list[str], summary: str) -> list[str]:
    top = 10 + position * ROW
    elements, width = [], (NAMES - 6 * (len(names) - 1)) / len(names)
    for number, name in enumerate(names):
        x = 36 + number * (width + 6)
        middle = x + width / 2
        elements += [
            f'<rect x="{x:.0f}" y="{top:.0f}" width="{width:.0f}" height="{ROW - 6}" rx="4" '
            'fill="#fff" stroke="#2c6aa5"/>',
            f'<text x="{middle:.0f}" y="{top + 16:.0f}" text-anchor="middle">{name}</text>',
        ]
    short = (
        summary
        if len(summary) < 78
        else summary[:76].rpartition(" ")[0] + " \N{HORIZONTAL ELLIPSIS}"
    )
    plain = short.replace("&", "&amp;").replace("<", "&lt;")
    return [*elements, f'<text x="{NAMES + 50}" y="{top + 16:.0f}" fill="#666">{plain}</text>']


def _said(module: str) -> str:
    text = inspect.getdoc(importlib.import_module(module)) or ""
    return " ".join(text.partition("\n\n")[0].replace("`", "").split())


def main() -> None:
    """Write the drawing, or say with --check whether it is what the contract says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where old")
    if parser.parse_args().check:
        raise SystemExit(int(FIGURE.read_text(encoding="utf-8") != figure()))
    write_text(FIGURE, figure())


if __name__ == "__main__":
    main()
