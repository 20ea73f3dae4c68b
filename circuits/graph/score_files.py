"""The two files of every kind of scores: tensors, and a JSON record that says what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.runtime.files import atomic_path, read_json, write_json


def write_scores(
    path: Path,
    scores: Tensor,
    per_example: Float[Tensor, "example ..."] | None,
    record: dict[str, Any],
) -> None:
    """Write a `.safetensors`, then a `.json` beside it."""
    tensors = {"scores": scores.contiguous()}
    if per_example is not None:
        tensors["per_example"] = per_example.contiguous()
    with atomic_path(path) as temporary:
        save_file(tensors, str(temporary))
    write_json(path.with_suffix(".json"), record)


def read_scores(
    path: str | Path, name: str, verb: str
) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """The file's path, its tensors and its record.

    path: the `.safetensors`, or a folder with `name.safetensors` in it. verb: what writes one.
    """
    path = Path(path)
    if path.is_dir():
        path = path / f"{name}.safetensors"
    if not path.is_file():
        raise CircuitsError(f"{path}: no such score file; write one with `{verb}`")
    record = read_json(path.with_suffix(".json"))
    try:
        tensors = load_file(str(path))
    except SafetensorError as error:
        raise CircuitsError(f"{path}: not a score file ({error})") from error
    if "scores" not in tensors or not isinstance(record, dict):
        raise CircuitsError(f"{path}: not a score file (it holds no scores, or no record of them)")
    if unknown := sorted(set(tensors) - {"scores", "per_example"}):
        raise CircuitsError(
            f"{path}: unknown tensor {unknown[0]!r} (known: scores, per_example); it may be of a "
            "later version and change what the scores mean"
        )
    each, shape = tensors.get("per_example"), tensors["scores"].shape
    if each is not None and each.shape[1:] != shape:
        raise CircuitsError(
            f"{path}: per_example is {tuple(each.shape)}, where scores are {tuple(shape)} and an "
            "example's are too"
        )
    return path, tensors, record
