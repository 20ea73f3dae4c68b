"""What the scripts that redo a study have in common: their help, a baseline, tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.runtime.batching import over_batches
from circuits.runtime.files import write_json, write_text
from circuits.statistics.estimate import estimates
from tasks.pairs import PairBatch, PairSet

Interval = list[float]
"""A mean and the ends of its 95 % interval; the mean thrice where there is one example."""


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description as it is written, and every default that is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def parser(description: str | None, out: str, *, pairs: int, steps: int) -> argparse.ArgumentParser:
    """The options that every study takes."""
    argument_parser = argparse.ArgumentParser(description=description, formatter_class=_Help)
    argument_parser.add_argument(
        "--model", help="hub id, local folder or PEFT folder; a small GPT-2 is trained unless told"
    )
    argument_parser.add_argument("--out", type=Path, default=Path(out), help="folder to write into")
    argument_parser.add_argument(
        "--pairs", type=int, default=pairs, help="test pairs that figures are on"
    )
    argument_parser.add_argument(
        "--steps", type=int, default=steps, help="of the small GPT-2's training"
    )
    argument_parser.add_argument(
        "--device", help="cpu, cuda, ...; the first accelerator unless told"
    )
    argument_parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    argument_parser.add_argument("--seed", type=int, default=0, help="of training and of the pairs")
    return argument_parser


def baseline(
    model: HookedModel, pairs: PairSet, metrics: Sequence[str], side: str = "clean"
) -> dict[str, Interval]:
    """Each metric of the whole model on the clean or the corrupted prompts."""
    values = torch.zeros(len(pairs), len(metrics), dtype=torch.float64)

    def work(hooked: HookedModel, batch: PairBatch) -> Tensor:
        with torch.no_grad():
            logits = hooked.logits(getattr(batch, side), batch)
        return torch.stack([METRICS[metric](logits, batch) for metric in metrics], dim=1)

    for batch, batch_values in over_batches(model, pairs, work):
        values[batch.index.cpu()] = batch_values.double().cpu()
    if len(pairs) == 1:
        return {m: [value] * 3 for m, value in zip(metrics, values[0].tolist(), strict=True)}
    intervals = estimates(values, lambda means: means)
    return {
        m: [estimate.value, estimate.low, estimate.high]
        for m, estimate in zip(metrics, intervals, strict=True)
    }


def told(interval: Interval) -> str:
    """In words."""
    value, low, high = interval
    return f"{value:.3f}" if low == value == high else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; a bar inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        + "\n"
    )


def publish(out: Path, parts: Sequence[str], record: dict[str, Any], *others: Path) -> None:
    """Write `tables.md` and `tables.json`, print the tables, and say where everything is."""
    text = "\n".join(parts)
    write_text(out / "tables.md", text)
    write_json(out / "tables.json", record)
    print(text)
    for path in (out / "tables.md", out / "tables.json", *others):
        print(f"wrote {path}")
