"""What exact activation patching finds, position by position, beside the estimates of the edges."""

from __future__ import annotations

from collections.abc import Iterator

from circuits.report.blocks import Block
from circuits.report.patching_page import blocks
from circuits.report.run import Run


def heatmap(run: Run) -> Iterator[Block]:
    """The sweep of the run's last checkpoint."""
    yield from blocks(run.patching)
