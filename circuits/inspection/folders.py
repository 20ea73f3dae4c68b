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
        found = files.adapter(folder / "adapter_config.json")
        return replace(found, path=folder)
    if (folder / "config.json").is_file() and any(
        next(folder.glob(pattern), None) for pattern in _WEIGHTS
    ):
        return _model(folder)
    parts = _parts(folder)
    if not parts:
        return None
    alike = {part.what for part in parts}
    what = f"{len(parts)} files: {alike.pop()}" if len(alike) == 1 else "a folder of results"
    return Inspection(folder, what, parts=parts)


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
    pieces = [one for one in folder.iterdir() if one.suffix in (".json", ".safetensors")]
    return Inspection(
        folder,
        "partial work; the same command goes on from it",
        facts={"pieces": f"{len(pieces)} so far"},
    )


def _training(folder: Path) -> Inspection:
    steps = sorted(int(one.name[5:]) for one in folder.glob("step-*") if one.name[5:].isdigit())
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
    named = config.get("architectures") or [None] if isinstance(config, dict) else [None]
    return Inspection(
        folder,
        "a model as Hugging Face keeps it",
        facts={"architecture": str(named[0])} if named[0] else {},
    )


def _parts(folder: Path) -> tuple[Inspection, ...]:
    """What of a folder was written here, and of the folders in it one further step down."""
    found = []
    for place in sorted(folder.iterdir()):
        if place.name.startswith("."):
            continue
        beside = place.with_suffix(".safetensors")
        if place.suffix == ".json" and beside.is_file():
            continue  # the record of scores, which are named themselves
        try:
            one = of_folder(place) if place.is_dir() else files.of_file(place)
        except (CircuitsError, OSError) as error:
            one = Inspection(place, "unreadable", problem=str(error).removeprefix(f"{place}: "))
        if one is not None:
            found.append(one)
    return tuple(found)
