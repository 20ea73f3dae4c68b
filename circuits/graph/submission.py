"""Folders as MIB's leaderboard takes them: one for each task and model, such as `ioi_gpt2`.

A folder holds either one graph file with scores (`importances.json` or `.pt`), of which the
benchmark takes the best edges itself, or nine graph files with a circuit each, of at most .1, .2,
.5, 1, 2, 5, 10, 20 and 50 % of the edges, counted ungrouped. A submission has at least two tasks
and two models. Source: README.md of hannamw/MIB-circuit-track ("Submitting to the MIB
Leaderboard").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from circuits.errors import CircuitsError
from circuits.graph.circuit import Circuit
from circuits.graph.interchange import GraphFile, write_graph
from circuits.graph.layout import Layout
from circuits.graph.orders import edge_order
from circuits.graph.provenance import Provenance
from circuits.graph.scores import EdgeScores
from circuits.graph.ungrouped import ungrouped, ungrouped_circuit
from circuits.options.choices import Ranking, Strategy

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MODELS = {
    "gpt2": ("gpt2", "gpt2-small", "openai-community/gpt2"),
    "qwen2.5": ("Qwen/Qwen2.5-0.5B",),
    "gemma2": ("google/gemma-2-2b",),
    "llama3": ("meta-llama/Llama-3.1-8B",),
}
"""What MIB calls a model, and by what names it is loaded."""
_ON = {
    "ioi": ("gpt2", "qwen2.5", "gemma2", "llama3"),
    "mcqa": ("qwen2.5", "gemma2", "llama3"),
    "arithmetic-addition": ("llama3",),
    "arithmetic-subtraction": ("llama3",),
    "arc-easy": ("gemma2", "llama3"),
    "arc-challenge": ("llama3",),
}
_OF_TASKS = {
    ("mib-ioi", ""): "ioi",
    ("mib-mcqa", ""): "mcqa",
    ("mib-arithmetic", "operator=+"): "arithmetic-addition",
    ("mib-arithmetic", "operator=-"): "arithmetic-subtraction",
    ("mib-arc", "difficulty=easy"): "arc-easy",
    ("mib-arc", "difficulty=challenge"): "arc-challenge",
}
_DEFAULTS = {"mib-arithmetic": "operator=+", "mib-arc": "difficulty=easy"}


class Cell(NamedTuple):
    """A task and a model of MIB's table, by its names for them."""

    task: str
    model: str

    @property
    def folder(self) -> str:
        """What its folder is called."""
        return f"{self.task}_{self.model}"

    @classmethod
    def named(cls, name: str) -> Cell:
        """The cell of a folder.

        Args:
            name: of the folder: `ioi_gpt2`; MIB's code takes `arc_easy_llama3` too.

        Returns:
            The cell.

        Raises:
            CircuitsError: where MIB has no such task, or does not ask it of that model.
        """
        task, _, model = name.rpartition("_")
        task = task.replace("_", "-")
        if model not in _ON.get(task, ()):
            folders = [cls(t, m).folder for t, models in _ON.items() for m in models]
            raise CircuitsError(
                f"{name!r} is no task and model of MIB; they are: {', '.join(folders)}"
            )
        return cls(task, model)

    @classmethod
    def of(cls, made_from: Provenance) -> Cell:
        """The cell that scores are of, as far as they say.

        Args:
            made_from: the scores' own record.

        Returns:
            The cell.

        Raises:
            CircuitsError: where model or task are none of MIB's.
        """
        data, model = made_from.data, made_from.model
        task = "" if data is None else data.task
        task_options = () if made_from.task is None else made_from.task.options
        before = _DEFAULTS.get(task, "")
        option = next((o for o in task_options if o.startswith(f"{before.partition('=')[0]}=")), "")
        mib_task = _OF_TASKS.get((task, option if before and option else before))
        name = "" if model is None else model.name
        mib_model = next((key for key, names in MODELS.items() if name in names), None)
        if mib_task is None or mib_model is None:
            raise CircuitsError(
                f"scores of task {task or 'unknown'!r} and model {name or 'unknown'!r}, which are "
                "none of MIB's table; name the folder with --cell, as in ioi_gpt2"
            )
        return cls.named(cls(mib_task, mib_model).folder)


@dataclass(frozen=True)
class CellFiles:
    """The graph files of one folder: one with scores, or nine circuits.

    Attributes:
        folder: where they are.
        files: read, in the order of their names.
    """

    folder: Path
    files: tuple[GraphFile, ...]

    @classmethod
    def read(cls, folder: str | Path) -> CellFiles:
        """Read a folder.

        Args:
            folder: with .json or .pt files.

        Returns:
            Its files.

        Raises:
            CircuitsError: where it holds neither one file with scores nor nine circuits, or one of
                these is more than its share of the edges.
        """
        folder = Path(folder)
        paths = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".pt"))
        files = tuple(GraphFile.read(path) for path in paths)
        cell_files = cls(folder, files)
        if len(files) == 1:
            if not files[0].has_scores:
                raise CircuitsError(f"{paths[0]}: its edges have no scores; one file needs them")
        elif len(files) == len(SHARES):
            _require_small(folder, cell_files.circuits())
        else:
            raise CircuitsError(
                f"{folder}: {len(files)} .json and .pt files; MIB takes one with scores, or "
                f"{len(SHARES)} circuits"
            )
        return cell_files

    def scores(self) -> EdgeScores | None:
        """The scores on the ungrouped graph; None where the folder holds circuits."""
        return self.files[0].scores() if len(self.files) == 1 else None

    def circuits(self) -> tuple[Circuit, ...]:
        """The nine circuits on the ungrouped graph, in the order of the files' names."""
        return tuple(file.circuit() for file in self.files)


def write_cell(
    folder: str | Path,
    scores_or_circuits: EdgeScores | Sequence[Circuit],
    *,
    d_model: int,
    suffix: str = ".json",
) -> list[Path]:
    """Write a folder of a submission; graph files that it held are removed.

    Args:
        folder: called `Cell.folder`.
        scores_or_circuits: scores, or nine circuits.
        d_model: the model's width.
        suffix: .json or .pt.

    Returns:
        The files.

    Raises:
        CircuitsError: where there are not nine circuits, or one is more than its share.
    """
    folder = Path(folder)
    if not isinstance(scores_or_circuits, EdgeScores):
        if len(scores_or_circuits) != len(SHARES):
            raise CircuitsError(
                f"{folder}: {len(scores_or_circuits)} circuits; MIB takes {len(SHARES)}"
            )
        _require_small(folder, scores_or_circuits)
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.json"), *folder.glob("*.pt")):
        old.unlink()
    if isinstance(scores_or_circuits, EdgeScores):
        path = folder / f"importances{suffix}"
        return [write_graph(path, d_model=d_model, scores=scores_or_circuits)]
    return [
        write_graph(folder / f"circuit_{100 * share:g}{suffix}", d_model=d_model, circuit=circuit)
        for share, circuit in zip(SHARES, sorted(scores_or_circuits, key=_edges), strict=True)
    ]


def circuits_of_shares(
    scores: EdgeScores, strategy: Strategy = "widest-path", ranking: Ranking = "absolute"
) -> list[Circuit]:
    """The nine circuits by a strategy of ours: as many edges as MIB's shares allow, pruned.

    Args:
        scores: of all edges.
        strategy: how the ranking becomes an order.
        ranking: what an edge is worth, absolute or signed.

    Returns:
        Circuits of the scores' own graph; under grouped-query attention an edge into a shared
        reader counts as many times as MIB counts it.
    """
    order, layout = edge_order(scores, strategy, ranking, join=True), scores.layout
    copies = _copies(layout)[order % layout.shape[1]].cumsum(0)
    edges, nothing = ungrouped(layout).n_edges, Circuit.empty(layout)
    sizes = [int((copies <= int(share * edges)).sum()) for share in SHARES]
    return [nothing.with_only(order[:size]).pruned() for size in sizes]


def submission_faults(folder: str | Path) -> list[str]:
    """What the leaderboard's rules find wrong with a submission.

    Args:
        folder: with one folder for each task and model.

    Returns:
        A line for each fault; none where all is as it should be.
    """
    cells, faults = set(), []
    for cell_folder in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        try:
            cell = Cell.named(cell_folder.name)
            CellFiles.read(cell_folder)
        except CircuitsError as error:
            faults.append(str(error))
            continue
        cells.add(cell)
    for what, names in (("task", {c.task for c in cells}), ("model", {c.model for c in cells})):
        if len(names) < 2:
            number = f"{len(names)} {what}" if len(names) == 1 else f"{len(names)} {what}s"
            faults.append(
                f"{folder}: {number} that can be read; MIB asks for circuits of two {what}s or more"
            )
    return faults


def _copies(layout: Layout) -> torch.Tensor:
    """By reader, how many edges MIB counts for one into it."""
    group = layout.n_heads // layout.n_kv_heads
    shared = [node.port in ("k", "v") for node in layout.reader_nodes]
    return torch.tensor([group if is_kv else 1 for is_kv in shared])


def _edges(circuit: Circuit) -> int:
    return len(ungrouped_circuit(circuit))


def _require_small(folder: Path, circuits: Sequence[Circuit]) -> None:
    """Refuse circuits of which one is larger than its share of the edges."""
    n_edges = ungrouped(circuits[0].layout).n_edges
    for share, size in zip(SHARES, sorted(map(_edges, circuits)), strict=True):
        if size > share * n_edges:
            raise CircuitsError(
                f"{folder}: no circuit of at most {share:.1%} of the {n_edges} edges is left for "
                f"its place; the next has {size}, counted ungrouped"
            )
