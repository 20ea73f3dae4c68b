"""Single files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml
from safetensors import SafetensorError, safe_open

from circuits.errors import CircuitsError
from circuits.format import counted
from circuits.inspection.for_others import for_others
from circuits.inspection.inspection import Inspection
from circuits.inspection.kinds import KINDS, facts_of, model_of, task_of
from circuits.runtime.files import read_json
from tasks.pairs import PairSet


def of_file(path: Path) -> Inspection | None:
    """What a file is; None where it is nothing that was written here."""
    by_ending = {
        ".json": _json,
        ".jsonl": _pairs,
        ".safetensors": _tensors,
        ".partial": _partial,
        ".yaml": _recipe,
        ".html": _page,
    }
    if path.name.endswith(".partial.rows"):
        return Inspection(path, "scores of single examples of partial work, beside its file")
    look = by_ending.get(path.suffix)
    return (None if look is None else look(path)) or for_others(path)


def result(path: Path, content: Mapping[str, object]) -> Inspection | None:
    """A result file; one that cannot be read is told with the reason."""
    kind, version = str(content.get("kind")), content.get("schema_version")
    result_kind = KINDS.get(kind)
    if result_kind is None:
        return None
    about = Inspection(path, result_kind.what, kind, version if isinstance(version, int) else None)
    try:
        loaded = result_kind.load(path)
    except CircuitsError as error:
        return replace(about, problem=str(error).removeprefix(f"{path}: "))
    return replace(about, model=model_of(loaded), task=task_of(loaded), facts=facts_of(loaded))


def _json(path: Path) -> Inspection | None:
    content = read_json(path)
    if isinstance(content, dict):
        if inspection := result(path, content):
            return inspection
        if path.name == "adapter_config.json":
            return adapter(path)
    if path.name == "skipped.json":
        n = sum(map(len, content.values())) if isinstance(content, dict) else len(_listed(content))
        rows = {"rows": f"{n} left out"}
        return Inspection(path, "rows of the data that could not be used, and why", facts=rows)
    return None


def adapter(path: Path) -> Inspection:
    """A LoRA, by its adapter_config.json."""
    content = read_json(path)
    values = content if isinstance(content, dict) else {}
    weights = any(path.parent.glob("adapter_model.*"))
    layers = values.get("layers_to_transform")
    return Inspection(
        path,
        "a LoRA" if weights else "the configuration of a LoRA, without weights",
        model=str(values.get("base_model_name_or_path")),
        facts={
            "rank": str(values.get("r")),
            "layers": "all" if layers is None else ", ".join(map(str, layers)),
        },
    )


def _listed(content: object) -> list[object]:
    return content if isinstance(content, list) else []


def _pairs(path: Path) -> Inspection | None:
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    try:
        header = json.loads(first)
    except json.JSONDecodeError:
        return None
    if not isinstance(header, dict) or not {"task", "split", "metric"} <= header.keys():
        return None
    description = "prompt pairs"
    try:
        pairs = PairSet.load(path)
    except CircuitsError as error:
        return Inspection(path, description, task=str(header["task"]), problem=str(error))
    lengths = sorted(len(pair.clean) for pair in pairs)
    return Inspection(
        path,
        description,
        task=f"{pairs.task}, {pairs.split}, {counted(len(pairs), 'pair')}",
        facts={
            "metric": pairs.metric,
            "tokens": f"{lengths[0]} to {lengths[-1]} a prompt",
            **({"left out": f"{len(pairs.skipped)} rows"} if pairs.skipped else {}),
        },
    )


def _tensors(path: Path) -> Inspection | None:
    record = path.with_suffix(".json")
    if record.is_file():
        content = read_json(record)
        inspection = result(record, content) if isinstance(content, dict) else None
        if inspection is not None and "scores" in str(inspection.kind):
            return replace(inspection, path=path)
    return None


def _partial(path: Path) -> Inspection | None:
    """What work that was stopped has filled so far."""
    description = "partial work; the same command goes on from it"
    try:
        with safe_open(str(path), framework="pt") as file:
            work = json.loads((file.metadata() or {}).get("work", "{}"))
            done_mask = file.get_tensor("done") if "done" in file.keys() else None  # noqa: SIM118
    except SafetensorError as error:
        return Inspection(path, description, problem=f"cannot be read ({error}); remove it")
    model, data = work.get("model"), work.get("data")
    facts = (
        {}
        if done_mask is None
        else {"done": f"{int(done_mask.sum())} of {counted(len(done_mask), 'example')}"}
    )
    facts |= {name: str(work[name]) for name in ("method", "metric") if work.get(name)}
    return Inspection(
        path,
        description,
        model=str(model["name"]) if isinstance(model, dict) else None,
        task=f"{data['task']}, {data['split']}" if isinstance(data, dict) else None,
        facts=facts,
    )


def _recipe(path: Path) -> Inspection | None:
    from circuits.pipeline import load_recipe

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return None
    if not isinstance(values, dict) or not {"model", "task"} <= values.keys():
        return None
    try:
        recipe = load_recipe(path)
    except CircuitsError as error:
        return Inspection(path, "a recipe", problem=str(error).removeprefix(f"{path}: "))
    return Inspection(path, "a recipe", model=recipe.model, task=recipe.task.name)


def _page(path: Path) -> Inspection | None:
    text = path.read_text(encoding="utf-8", errors="replace")
    title = text.partition("<title>")[2].partition("</title>")[0]
    if 'content="circuit.show()"' in text[:500]:
        return Inspection(path, "a circuit as a page", facts={"title": title})
    if 'id="explorer-contents"' in text and 'id="plots"' not in text:
        return Inspection(path, "an explorer of circuits; open it in a browser")
    if 'id="plots"' in text and 'id="theme"' in text:
        return Inspection(path, "a report; open it in a browser", facts={"title": title})
    return None
