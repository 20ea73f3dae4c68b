"""Run every notebook, and keep what its cells show, for its page on the documentation's site.

    python scripts/notebook_outputs.py

Notebooks themselves are kept without outputs. What is kept in notebooks/outputs names the code that
it is of: a page whose notebook has changed since shows no outputs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circuits.runtime.files import write_json

SCRIPTS = Path(__file__).parent
NOTEBOOKS = SCRIPTS.parent / "notebooks"
sys.path.append(str(SCRIPTS / "docs_site"))

import notebook_pages  # noqa: E402 - it stands in a folder of its own

# Any: the JSON of a notebook.
Output = Mapping[str, Any]


def shown(output: Output) -> dict[str, object] | None:
    """What a page shows of an output: a figure, HTML or text; nothing of warnings and bars.

    Args:
        output: of a cell, as a notebook's JSON holds it.

    Returns:
        Its kind and content.
    """
    if output["output_type"] == "stream":
        return {"text": output["text"]} if output["name"] == "stdout" else None
    data = output.get("data", {})
    if "application/vnd.plotly.v1+json" in data:
        return {"figure": data["application/vnd.plotly.v1+json"]}
    if "text/html" in data:
        return {"html": re.sub(r"<style scoped>.*?</style>\n", "", data["text/html"], flags=re.S)}
    return {"text": data["text/plain"]} if "text/plain" in data else None


def main() -> None:
    """Run them one after the other, each in an empty folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="such as 1_find_a_circuit; all, if none is named")
    names = parser.parse_args().names
    import nbformat
    from nbclient import NotebookClient

    os.environ["TQDM_DISABLE"] = "1"
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(notebook, timeout=600, resources=resources).execute()
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        outputs = [[output for output in map(shown, cell.outputs) if output] for cell in cells]
        code = notebook_pages.fingerprint(cell.source for cell in cells)
        write_json(notebook_pages.OUTPUTS / f"{path.stem}.json", {"code": code, "cells": outputs})


if __name__ == "__main__":
    main()
