"""Build the documentation's site into build/site, which opens from the disk: build/site/index.html.

Pages are the documents, the notebooks as text, the Python reference from the docstrings, the verbs
from their help, and the file formats from the classes. A warning, a link that leads nowhere, or
anything that a page would load from a network ends the build with status 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import link_check
import plotly.offline
import source_pages
import yaml
from notebook_pages import FIGURES

from circuits.runtime.files import drop_folder

SOURCES = source_pages.ROOT / "build" / "docs"
SITE = source_pages.ROOT / "build" / "site"
CONFIGURATION = source_pages.ROOT / "mkdocs.yml"


def write_sources(folder: Path) -> None:
    """Write what the site is made from.

    Args:
        folder: made again.
    """
    import api_pages  # these import every package, which --help need not
    import command_pages
    import format_pages

    contents = source_pages.contents(source_pages.places())
    text_pages = {
        **api_pages.pages(),
        **format_pages.pages(),
        command_pages.PAGE: command_pages.page(),
    }
    contents.update({name: text.encode() for name, text in text_pages.items()})
    contents[FIGURES] = plotly.offline.get_plotlyjs().encode()
    if folder.exists():
        drop_folder(folder)
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def menu_faults(sources: Path, configuration: Path) -> list[str]:
    """Pages that no menu leads to.

    Args:
        sources: the folder of the site's sources.
        configuration: the YAML file whose `nav` is the menu.

    Returns:
        A line for each.
    """
    menu = yaml.safe_load(configuration.read_text(encoding="utf-8"))["nav"]
    in_menu = {*_leaves(menu)}
    pages = {path.relative_to(sources).as_posix() for path in sources.rglob("*.md")}
    return [f"{name}: not in the menu of {configuration.name}" for name in sorted(pages - in_menu)]


def _leaves(menu: object) -> Iterator[str]:
    if isinstance(menu, str):
        yield menu
    elif isinstance(menu, list | dict):
        for entry in menu.values() if isinstance(menu, dict) else menu:
            yield from _leaves(entry)


def main() -> None:
    """Build, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    write_sources(SOURCES)
    faults = source_pages.lost_links(source_pages.places())
    faults += menu_faults(SOURCES, CONFIGURATION)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    process = subprocess.run(command, cwd=source_pages.ROOT, check=False)
    faults += link_check.faults(SITE)
    for line in faults:
        print(line, file=sys.stderr)
    raise SystemExit(process.returncode or int(bool(faults)))


if __name__ == "__main__":
    main()
