"""Git LFS pointers: what a clone holds in the place of a large file until that is fetched."""

from __future__ import annotations

from pathlib import Path

_FIRST_LINE = b"version https://git-lfs.github.com/spec/"


def pointer_among(*files: Path) -> str | None:
    """What to say of the first file that is a Git LFS pointer; None where none is."""
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(_FIRST_LINE)) == _FIRST_LINE:
                    return (
                        f"{path.name} is a Git LFS pointer, not the file itself; fetch it with "
                        "`git lfs pull`"
                    )
    return None
