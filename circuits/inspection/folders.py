"""Folders: of runs, of partial work, of training, of a LoRA, of a model, and of results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from circuits.errors import CircuitsError
from circuits.export.folder import RECORD
from circuits.inspection import files
from circuits.inspection.inspection import Inspection
from circuits.runtime.files import read_json

_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")


def of_folder(folder: Path) -> Inspection | None:
    """What a folder is; None where nothing in it was written here."""
    if (folder / "recipe.yaml").is_file():
        return _run(folder)
    if folder.suffix == ".partial":
        return _pieces(folder)
    if (folder / "run.json").is_file():
        return _training(folder)
    if (record := folder / RECORD).is_file():
        exported = files.of_file(record)
        return None if exported is None else replace(exported, path=folder)
    if (folder / "adapter_config.json").is_file():
        adapter = files.adapter(folder / "adapter_config.json")
        return replace(adapter, path=folder)
    if (folder / "config.json").is_file() and any(
        next(folder.glob(pattern), None) for pattern in _WEIGHTS
    ):
        return _model(folder)
    parts = _parts(folder)
    if not parts:
        return None
    kinds = {part.what for part in parts}
    description = f"{len(parts)} files: {kinds.pop()}" if len(kinds) == 1 else "a folder of results"
    return Inspection(folder, description, parts=parts)


def _run(folder: Path) -> Inspection:
    recipe = files.of_file(folder / "recipe.yaml")
    stages = sorted((folder / ".stages").glob("*.json"))
    finished = (folder / "report.html").is_file() and (folder / "environment.json").is_file()
    state = "finished" if finished else "not finished; `circuits run` goes on with it"
    return Inspection(
        folder,
        "a run",
        model=None if recipe is None else recipe.model,
        task=None if recipe is None else recipe.task,
        facts={"state": f"{state}, {len(stages)} stages done"},
        problem=None if recipe is None else recipe.problem,
        parts=_parts(folder),
    )


def _pieces(folder: Path) -> Inspection:
    pieces = [path for path in folder.iterdir() if path.suffix in (".json", ".safetensors")]
    return Inspection(
        folder,
        "partial work; the same command goes on from it",
        facts={"pieces": f"{len(pieces)} so far"},
    )


def _training(folder: Path) -> Inspection:
    steps = sorted(int(path.name[5:]) for path in folder.glob("step-*") if path.name[5:].isdigit())
    log = folder / "training_log.json"
    about = files.of_file(log) if log.is_file() else None
    return Inspection(
        folder,
        "a fine-tuning",
        facts={
            **({} if about is None else about.facts),
            "checkpoints": ", ".join(f"step-{step}" for step in steps) or "none yet",
        },
        problem=None if about is None else about.problem,
        parts=_parts(folder),
    )


def _model(folder: Path) -> Inspection:
    config = read_json(folder / "config.json")
    architectures = config.get("architectures") or [None] if isinstance(config, dict) else [None]
    return Inspection(
        folder,
        "a model as Hugging Face keeps it",
        facts={"architecture": str(architectures[0])} if architectures[0] else {},
    )


def _parts(folder: Path) -> tuple[Inspection, ...]:
    """What of a folder was written here, and of the folders in it one further step down."""
    inspections = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        tensor_file = path.with_suffix(".safetensors")
        if path.suffix == ".json" and tensor_file.is_file():
            continue  # the record of scores, which are named themselves
        try:
            inspection = of_folder(path) if path.is_dir() else files.of_file(path)
        except (CircuitsError, OSError) as error:
            inspection = Inspection(
                path, "unreadable", problem=str(error).removeprefix(f"{path}: ")
            )
        if inspection is not None:
            inspections.append(inspection)
    return tuple(inspections)
