"""The site's pages that are kept in the repository: which they are, and their links on the site.

Documents link to one another by their places in the repository, so that they can be read there. On
the site the README is the home page, notebooks are pages, and files that the site does not have
(sources, tests) are named without a link.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from notebook_pages import as_markdown

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z]+:|#")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def places(root: Path = ROOT) -> dict[str, str]:
    """Where each file of the repository that the site shows stands on the site.

    Args:
        root: the repository.

    Returns:
        Its path in the repository, and its path among the site's sources.
    """
    targets = {
        "README.md": "index.md",
        "CHANGELOG.md": "changelog.md",
        "CONTRIBUTING.md": "contributing.md",
        "CITATION.cff": "CITATION.cff",
    }
    for path in sorted((root / "docs").rglob("*")):
        if path.is_file():
            targets[_name(root, path)] = _name(root / "docs", path)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        targets[_name(root, path)] = f"tutorials/{path.stem}.md"
    for path in sorted((root / "tasks" / "builtin").glob("*/README.md")):
        targets[_name(root, path)] = f"tasks/{path.parent.name}.md"
    return targets


def contents(where: Mapping[str, str], root: Path = ROOT) -> dict[str, bytes]:
    """Every file of `places` as the site has it.

    Args:
        where: what `places` gave.
        root: the repository.

    Returns:
        Contents by path among the site's sources; of a notebook also the notebook itself.
    """
    files: dict[str, bytes] = {}
    for source, target in where.items():
        path = root / source
        if path.suffix == ".ipynb":
            files[str(PurePosixPath(target).with_suffix(".ipynb"))] = path.read_bytes()
            text = as_markdown(path)
        elif path.suffix == ".md":
            text = path.read_text(encoding="utf-8")
        else:
            files[target] = path.read_bytes()
            continue
        files[target] = with_site_links(text, source, where).encode()
    return files


def with_site_links(text: str, source: str, where: Mapping[str, str]) -> str:
    """A document whose links to files lead to their places on the site.

    Args:
        text: Markdown.
        source: the document's path in the repository.
        where: what `places` gave.

    Returns:
        The text. A link to a file that the site lacks is its label alone; code is left alone.
    """
    folder = posixpath.dirname(where[source])

    def replaced(link: re.Match[str]) -> str:
        mark, label, aim = link.groups()
        if _ELSEWHERE.match(aim):
            return link[0]
        _, hash_, anchor = aim.partition("#")
        target = where.get(_aim_in_repository(source, aim))
        if target is None:
            return str(label)
        return f"{mark}[{label}]({posixpath.relpath(target, folder or '.')}{hash_}{anchor})"

    pieces = _FENCE.split(text)
    return "".join(
        piece if piece.startswith("```") else _LINK.sub(replaced, piece) for piece in pieces
    )


def lost_links(where: Mapping[str, str], root: Path = ROOT) -> list[str]:
    """Links of documents to files that the repository does not have.

    The site would show them as words, so its own links cannot tell of them.

    Args:
        where: what `places` gave.
        root: the repository.

    Returns:
        A line for each.
    """
    lost = []
    for source in where:
        path = root / source
        if path.suffix not in {".md", ".ipynb"}:
            continue
        text = as_markdown(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
        prose = "".join(piece for piece in _FENCE.split(text) if not piece.startswith("```"))
        lost += [
            f"{source}: {aim}: no such file in the repository"
            for _, _, aim in _LINK.findall(prose)
            if not _ELSEWHERE.match(aim) and not (root / _aim_in_repository(source, aim)).exists()
        ]
    return lost


def _aim_in_repository(source: str, aim: str) -> str:
    """The file that a document's link leads to, as a path in the repository."""
    folder = posixpath.dirname(source)
    return posixpath.normpath(posixpath.join(folder, aim.partition("#")[0]))


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
