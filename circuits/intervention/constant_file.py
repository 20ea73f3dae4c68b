"""Constants that stand in for sources, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from circuits.errors import CircuitsError
from circuits.intervention.ablation import ConstantKind, MeanActivations
from circuits.runtime.files import atomic_path

_PARTS = ("inputs", "z", "mlp", "hidden")
_KINDS: tuple[ConstantKind, ...] = get_args(ConstantKind)


def save_constants(constants: MeanActivations, path: str | Path) -> Path:
    """Write constants.

    Args:
        constants: means, or ones that were learned beside a mask.
        path: the file, a `.safetensors`.

    Returns:
        The path.
    """
    path = Path(path)
    tensors = {
        f"{part}.{index}": tensor.detach().cpu().contiguous()
        for part in _PARTS
        for index, tensor in enumerate(getattr(constants, part))
    }
    with atomic_path(path) as temporary:
        save_file(tensors, str(temporary), metadata={"ablation": constants.ablation})
    return path


def load_constants(path: str | Path) -> MeanActivations:
    """Read what `save_constants` wrote.

    Args:
        path: the file.

    Returns:
        The constants, for `ablation=`.

    Raises:
        CircuitsError: where the file is missing, damaged or of another kind.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            kind = (file.metadata() or {}).get("ablation")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CircuitsError(f"{path}: cannot be read as constants ({error})") from error
    ablation = next((k for k in _KINDS if k == kind), None)
    if ablation is None:
        raise CircuitsError(f"{path}: holds no constants; `circuits learn` writes them")
    parts = (
        tuple(
            tensors[f"{part}.{index}"]
            for index in range(sum(n.startswith(f"{part}.") for n in tensors))
        )
        for part in _PARTS
    )
    return MeanActivations(ablation, *parts)
