"""Does every link of a built site lead somewhere, and does nothing come from a network?"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

_LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}
_LOADING_RELATIONS = {"stylesheet", "icon", "preload", "preconnect", "modulepreload"}


@dataclass
class _Page(HTMLParser):
    """What a page names: its anchors, its links, and what it loads."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down one element."""
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and _LOADING_RELATIONS & set(values.get("rel", "").split()):
            self.loaded.append(values.get("href", ""))
        self.loaded += [values[name] for name in values if (tag, name) in _LOADED]


def faults(site: Path) -> list[str]:
    """What is wrong with the links of a built site.

    Args:
        site: its folder.

    Returns:
        A line for each link to a page, file or anchor that is not there, and for each thing that a
        page loads from elsewhere.
    """
    pages = {path.relative_to(site).as_posix(): _read(path) for path in site.rglob("*.html")}
    problems = []
    for name, page in sorted(pages.items()):
        if name == "404.html":  # served at any depth, so its links begin at the site's root
            continue
        problems += [
            f"{name}: loads {aim}, which is not of this site"
            for aim in page.loaded
            if _is_elsewhere(aim) and not aim.startswith("data:")
        ]
        problems += [
            f"{name}: {aim}: {reason}"
            for aim in sorted({*page.links, *page.loaded})
            if not _is_elsewhere(aim) and (reason := _fault(site, pages, name, aim))
        ]
    return problems


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _is_elsewhere(aim: str) -> bool:
    return aim.partition("/")[0].endswith(":") or aim.startswith(("//", "data:", "mailto:"))


def _fault(site: Path, pages: dict[str, _Page], name: str, aim: str) -> str | None:
    path, _, anchor = aim.partition("#")
    target = name
    if path:
        joined = posixpath.join(posixpath.dirname(name), unquote(path.partition("?")[0]))
        target = posixpath.normpath(joined)
        if target not in pages and not (site / target).is_file():
            return "no such page or file"
    if anchor and target in pages and unquote(anchor) not in pages[target].anchors:
        return f"{target} has no such anchor"
    return None
