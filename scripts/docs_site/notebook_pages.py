"""Notebooks as pages: their text and code, in order, without running anything."""

from __future__ import annotations

import json
from pathlib import Path

_HOW = (
    "This page is the notebook [{name}]({name}). Download it and open it with Jupyter, or copy "
    "the cells."
)


def as_markdown(path: Path) -> str:
    """A notebook as Markdown.

    Args:
        path: an .ipynb whose first cell begins with the title.

    Returns:
        Text cells as they are, code cells as code. Behind the title stands where the notebook is.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    title, _, rest = parts[0].partition("\n")
    return "\n\n".join([title, rest.strip(), *parts[1:], _HOW.format(name=path.name)]) + "\n"
