"""The explorer inside a page: its modules, its style and its data, so that nothing is loaded.

Modules name each other by `./name.js`. In a page they have no addresses, so each becomes a data
address, and an import map says which name is which.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from importlib import resources
from pathlib import Path

from circuits.explorer.contents import Json
from circuits.plot.palette import css_variables
from circuits.runtime.files import write_text
from circuits.runtime.inline_json import inline_json

_PREFIX = "circuits-explorer/"
_FROM = re.compile(r"""(\bfrom\s+|\bimport\s+)(["'])\./(?P<name>[\w./-]+\.js)\2""")
_SERVER_ONLY = ("live.js",)
"""Modules that only a server's page uses, with all that they alone import."""


def asset(name: str) -> str:
    """The text of one of the explorer's files."""
    resource = resources.files("circuits.explorer").joinpath("assets", *name.split("/"))
    return resource.read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def import_map() -> str:
    """The modules of a page without a server, as the content of an import map."""
    modules: dict[str, str] = {}
    waiting = ["main.js"]
    while waiting:
        name = waiting.pop()
        if name in modules or name in _SERVER_ONLY:
            continue
        text = asset(name)
        waiting += [match["name"] for match in _FROM.finditer(text)]
        rewritten = _FROM.sub(rf"\1\2{_PREFIX}\g<name>\2", text)
        content = base64.b64encode(rewritten.encode()).decode("ascii")
        modules[name] = f"data:text/javascript;charset=utf-8;base64,{content}"
    return inline_json({"imports": {f"{_PREFIX}{name}": text for name, text in modules.items()}})


def fragment(contents: Json, state: object = None) -> str:
    """The explorer as HTML that stands within a page which has the palette's CSS variables.

    Args:
        contents: of `circuits.explorer.contents`.
        state: what is chosen at the start, of a state file; None starts over.

    Returns:
        The place, the data, the modules. A page holds it once, before any other module.
    """
    return (
        f"<style>{asset('explorer.css')}</style>\n"
        '<div id="explorer" class="explorer"><p>The explorer is drawn by the script in this page.'
        "</p></div>\n"
        f'<script type="application/json" id="explorer-contents">{inline_json(contents)}</script>\n'
        f'<script type="application/json" id="explorer-state">{inline_json(state)}</script>\n'
        f'<script type="importmap">{import_map()}</script>\n'
        f'<script type="module">import "{_PREFIX}main.js";</script>'
    )


def page(contents: Json, state: object = None) -> str:
    """The explorer as a page of its own, which opens offline."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<title>Explorer of circuits</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{css_variables(':root')}{asset('page.css')}</style>\n</head>\n<body>\n<main>\n"
        f"{fragment(contents, state)}\n</main>\n</body>\n</html>\n"
    )


def write_page(contents: Json, path: str | Path, state: object = None) -> Path:
    """Write the explorer as a page of its own; returns the path."""
    path = Path(path)
    write_text(path, page(contents, state))
    return path
