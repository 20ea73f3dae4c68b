"""Notebooks as pages: their text, code and kept outputs, in order, without running anything."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

OUTPUTS = Path(__file__).parents[2] / "notebooks" / "outputs"
FIGURES = "site/plotly.min.js"
"""Where on the site the library stands that draws figures; it is of the package plotly."""
_HOW = (
    "This page is the notebook [{name}]({name}). Download it and open it with Jupyter, or copy "
    "the cells."
)
_DRAW = """<script src="../{library}"></script>
<script>
for (const place of document.querySelectorAll(".figure-of-output")) {{
  const figure = JSON.parse(place.dataset.figure);
  delete figure.layout.width;
  Plotly.newPlot(place, figure.data, figure.layout, {{displaylogo: false, responsive: true}});
}}
</script>"""


def as_markdown(path: Path, outputs: Path = OUTPUTS) -> str:
    """A notebook as Markdown.

    Args:
        path: an .ipynb whose first cell begins with the title.
        outputs: the folder of what `scripts/notebook_outputs.py` has kept; what is of other code
            than the notebook's is left out.

    Returns:
        Text cells as they are, code cells as code with what they show below. At the end stands
        where the notebook is.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    cell_outputs = iter(_kept(outputs / f"{path.stem}.json", code))
    sections = []
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            sections.append(text)
        else:
            sections += [f"```python\n{text}\n```", *map(_shown, next(cell_outputs))]
    if any("figure-of-output" in section for section in sections):
        sections.append(_DRAW.format(library=FIGURES))
    title, _, body = sections[0].partition("\n")
    return "\n\n".join([title, body.strip(), *sections[1:], _HOW.format(name=path.name)]) + "\n"


def fingerprint(code: Iterable[str]) -> str:
    """A hash of a notebook's code, cell by cell.

    Args:
        code: the source of each code cell.

    Returns:
        Hexadecimal digits.
    """
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def _kept(path: Path, code: list[str]) -> list[list[Mapping[str, object]]]:
    """What each code cell shows; nothing where that is not known of this code."""
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["code"] == fingerprint(code):
            cells: list[list[Mapping[str, object]]] = record["cells"]
            return cells
    return [[] for _ in code]


def _shown(output: Mapping[str, object]) -> str:
    """An output as HTML of one block."""
    if "figure" in output:
        figure = html.escape(json.dumps(output["figure"]))
        return f'<div class="output figure-of-output" data-figure="{figure}"></div>'
    if "html" in output:
        lines = str(output["html"]).splitlines()
        return '<div class="output">' + "\n".join(line for line in lines if line) + "</div>"
    return f'<pre class="output">{html.escape(str(output["text"]).rstrip())}</pre>'
