"""The two files of every kind of scores: tensors, and a JSON record that says what they are."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TypeVar

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.graph.layout import Layout
from circuits.graph.provenance import Provenance
from circuits.runtime.files import atomic_path
from circuits.runtime.mapped import mapped, place_of, write_tensors
from circuits.runtime.result_file import ResultFile


class EdgeScoresFile(ResultFile):
    """What stands beside a matrix of edge scores.

    method: of attribution. sources, readers: names of the matrix's rows and columns.
    """

    KIND: ClassVar[str] = "edge-scores"

    method: str
    layout: Layout
    sources: tuple[str, ...]
    readers: tuple[str, ...]
    provenance: Provenance


class NodeScoresFile(ResultFile):
    """What stands beside scores of nodes or neurons.

    widths: how many units each source has, side by side in the tensor.
    """

    KIND: ClassVar[str] = "node-scores"

    method: str
    layout: Layout
    sources: tuple[str, ...]
    widths: tuple[int, ...]
    provenance: Provenance


F = TypeVar("F", EdgeScoresFile, NodeScoresFile)


def write_scores(
    path: Path,
    scores: Tensor,
    per_example: Float[Tensor, "example ..."] | None,
    record: EdgeScoresFile | NodeScoresFile,
) -> None:
    """Write a `.safetensors`, then a `.json` beside it."""
    tensors = {"scores": scores}
    if per_example is not None:
        tensors["per_example"] = per_example
    with atomic_path(path) as temporary:
        write_tensors(temporary, tensors)
    record.save(path.with_suffix(".json"))


def read_scores(
    path: str | Path, name: str, verb: str, kind: type[F]
) -> tuple[Path, dict[str, Tensor], F]:
    """The file's path, its tensors and its record; scores of single examples stay in the file.

    Args:
        path: the `.safetensors`, or a folder with `name.safetensors` in it.
        name: what the file is called in a folder, without its ending.
        verb: what writes one, for the error where there is none.
        kind: of the record.

    Raises:
        CircuitsError: where a file is missing, broken or of another version.
    """
    path = Path(path)
    if path.is_dir():
        path = path / f"{name}.safetensors"
    if not path.is_file():
        raise CircuitsError(f"{path}: no such score file; write one with `{verb}`")
    record = kind.load(path.with_suffix(".json"))
    try:
        with safe_open(str(path), framework="pt") as file:  # refuses a file that is cut short
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            scores = file.get_tensor("scores") if "scores" in parts else None
    except SafetensorError as error:
        raise CircuitsError(f"{path}: not a score file ({error})") from error
    if scores is None:
        raise CircuitsError(f"{path}: not a score file (it holds no scores)")
    if record.sources != record.layout.sources:
        raise CircuitsError(f"{path}: its names do not match its layout ({record.layout.summary})")
    if unknown := sorted(set(parts) - {"scores", "per_example"}):
        raise CircuitsError(
            f"{path}: unknown tensor {unknown[0]!r} (known: scores, per_example); it may be of a "
            "later version and change what the scores mean"
        )
    for name, part in parts.items():
        if part.get_dtype() != "F32":
            raise CircuitsError(f"{path}: {name} holds {part.get_dtype()}; scores are float32")
    tensors = {"scores": scores}
    if "per_example" in parts:
        shape, offset = place_of(path, "per_example")
        if shape[1:] != scores.shape:
            raise CircuitsError(
                f"{path}: per_example is {shape}, where scores are {tuple(scores.shape)} and an "
                "example's are too"
            )
        tensors["per_example"] = mapped(path, shape, offset)
    return path, tensors, record
