"""Adapters with added tokens: the base gets the rows that it had in training.

A tokenizer to which tokens were added needs a model with more rows in its embeddings, and some
bases have more rows than their tokenizer has tokens and are cut in training. PEFT saves the resized
matrices with the adapter, but loads them only onto a base of their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from circuits.errors import CircuitsError

Shape = tuple[int, ...]


def fit_vocabulary(model: PreTrainedModel, folder: Path, record: Mapping[str, object]) -> None:
    """Give the base as many rows as the adapter in a folder was trained with.

    record: the folder's adapter_config.json.
    Raises CircuitsError where that is more than the base has and the adapter does not hold them.
    """
    ends = {"embeddings": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    module_names = {
        what: name
        for what, end in ends.items()
        for name, module in model.named_modules()
        if end is not None and module is end
    }
    shapes = dict(_shapes(folder))
    full_rows = {what: list(_rows(shapes, name)) for what, name in module_names.items()}
    parts = {what: list(_partial_rows(shapes, name)) for what, name in module_names.items()}
    row_counts = {rows for each in (*full_rows.values(), *parts.values()) for rows in each}
    tokens = _trained_tokens(record)
    have = _height(ends["embeddings"])
    if not row_counts and tokens and max(tokens) >= have:
        row_counts = {max(tokens) + 1}
    if len(row_counts) != 1 or (wanted := row_counts.pop()) == have:
        return
    if wanted > have:
        covered = set(range(have, wanted)) <= tokens
        tied = ends["output"] is not None and _weight(ends["output"]) is _weight(ends["embeddings"])
        for what in module_names:
            of_tied = tied and any(full_rows.values())
            tokens_do = covered and (what == "embeddings" or tied)
            if not (full_rows[what] or of_tied or tokens_do):
                raise CircuitsError(
                    f"{folder}: the adapter was trained with {wanted} tokens, its base has rows "
                    f"for {have}, and the adapter does not hold those of its {what}; resize the "
                    "base as in training, save it, and give that as the base"
                )
    model.resize_token_embeddings(wanted, mean_resizing=False)


def _shapes(folder: Path) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of the adapter's tensors; PEFT says so where there is no file of them."""
    safetensors_path, pickled = folder / "adapter_model.safetensors", folder / "adapter_model.bin"
    if safetensors_path.is_file():
        with safe_open(str(safetensors_path), framework="pt") as file:
            names: list[str] = list(file.keys())
            for name in names:
                yield name, tuple(file.get_slice(name).get_shape())
    elif pickled.is_file():
        tensors = torch.load(pickled, map_location="cpu", weights_only=True)
        yield from ((name, tuple(tensor.shape)) for name, tensor in tensors.items())


def _rows(shapes: Mapping[str, Shape], module: str) -> Iterator[int]:
    """Rows of whole matrices that the adapter holds for an embedding."""
    for name, shape in shapes.items():
        if f".{module}." in name and name.endswith(".weight") and ".lora_" not in name:
            yield shape[0]


def _partial_rows(shapes: Mapping[str, Shape], module: str) -> Iterator[int]:
    """Rows of the matrix that a LoRA sits on."""
    for name, shape in shapes.items():
        if f".{module}." not in name:
            continue
        if ".lora_embedding_A" in name:
            yield shape[1]
        elif ".lora_B" in name:
            yield shape[0]


def _trained_tokens(record: Mapping[str, object]) -> set[int]:
    """Tokens whose rows the adapter holds one by one."""
    indices = record.get("trainable_token_indices") or record.get("token_indices") or []
    lists = indices.values() if isinstance(indices, dict) else [indices]
    return {token for tokens in lists if isinstance(tokens, list) for token in tokens}


def _height(embedding: nn.Module) -> int:
    return int(_weight(embedding).shape[0])


def _weight(embedding: nn.Module) -> Tensor:
    weight = embedding.weight
    assert isinstance(weight, Tensor)
    return weight
