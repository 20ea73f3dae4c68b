"""The explorer of the run's circuits, within the report."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from circuits.explorer.contents import run_contents
from circuits.explorer.page import fragment
from circuits.report.blocks import Block, Explorer, Text
from circuits.report.run import Run


def explorer(run: Run) -> Iterator[Block]:
    """The circuits to walk through, from the folder's files."""
    contents = run_contents(run, "", "")
    yield Text(
        Markup(
            "Choose a checkpoint and a size, compare two checkpoints, point at an edge for its "
            "interval and rank, choose a node for what it reads and writes. Everything is in this "
            "file; <code>circuits explore</code>, given the run folder, shows the same beside the "
            "model, which then answers clicks."
        )
    )
    yield Explorer(Markup(fragment(contents)))
