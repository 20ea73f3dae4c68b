"""PEFT adapters: which base one was trained on, and merging it into that."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from circuits.errors import CircuitsError
from circuits.models.adapter_kinds import require_mergeable
from circuits.models.adapter_vocabulary import fit_vocabulary
from circuits.models.load_errors import LOAD_ERRORS, abbreviated, first_sentence, unfetched
from circuits.runtime.files import read_object

if TYPE_CHECKING:
    from peft import PeftModel

_PROBED = 8  # tokens on which the merged model is compared with the unmerged one
_EXACT = 1e-4  # of the logits' spread, in float32
_ROUNDINGS = 40  # of a weight's dtype


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without PEFT 0.21's warning of an attribute that transformers renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        yield


def recorded_base(folder: Path) -> str:
    """The base model that an adapter's folder names: a folder, or a hub id with its revision.

    It may be an adapter too; one that leads back to an adapter on the way is refused.
    """
    base, way = _recorded(folder), [folder.resolve()]
    under = Path(base).expanduser()
    while (under / "adapter_config.json").is_file():
        if under.resolve() in way:
            raise CircuitsError(
                f"{folder}: the base that its adapter_config.json names leads back to {under}; "
                "name the model that it was trained on"
            )
        way.append(under.resolve())
        under = Path(_recorded(under)).expanduser()
    return base


def _recorded(folder: Path) -> str:
    record = read_object(folder / "adapter_config.json")
    base, revision = (record.get(key) for key in ("base_model_name_or_path", "revision"))
    if not isinstance(base, str) or not base:
        raise CircuitsError(f"{folder}: the adapter does not name its base model; give one")
    if not revision or "@" in base or Path(base).expanduser().is_dir():
        return str(base)
    return f"{base}@{revision}"


def merge(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base with the adapter's weights added to its own; `model` itself is changed.

    Embeddings that were one matrix become two where the adapter changes either by itself, and get
    the rows of tokens that were added in training. The result is compared with the unmerged
    adapter, on a few tokens.
    Raises CircuitsError where the adapter cannot be read, where no one set of weights is equal to
    it, and where weights of it are missing: PEFT would take fresh ones, which change nothing.
    """
    from peft import PeftModel

    record = read_object(folder / "adapter_config.json")
    require_mergeable(folder, record)
    try:
        with quiet_peft():
            warnings.filterwarnings("error", "Found missing adapter keys")
            warnings.filterwarnings("ignore", ".*(`tie_word_embeddings|no longer tied)")  # _untie
            fit_vocabulary(model, folder, record)
            adapted = PeftModel.from_pretrained(model, str(folder)).eval()
            _untie(model)
            apart = _probe(adapted)
            merged: PreTrainedModel = adapted.merge_and_unload()
            together = _probe(merged)
    except UserWarning as error:
        missing = re.findall(r"'(.+?)'", str(error))
        raise CircuitsError(
            f"{folder}: weights of the adapter are missing: {abbreviated(missing)}; it is "
            "incomplete, or of another model"
        ) from error
    except CircuitsError:
        raise
    except LOAD_ERRORS as error:
        why = unfetched(folder) or _why(error)
        raise CircuitsError(f"{folder}: the adapter cannot be loaded ({why})") from error
    _require_equal(folder, record, apart, together, torch.finfo(merged.dtype).eps)
    merged.name_or_path = str(folder)  # an adapter that is trained on it names it as its base
    return merged.requires_grad_(True)  # PEFT froze the base; as any model that is loaded


def _why(error: Exception) -> str:
    message = first_sentence(error)
    plain = isinstance(error, RuntimeError | ValueError | OSError) and message
    return message if plain else f"{type(error).__name__}: {message}".removesuffix(": ")


@torch.no_grad()
def _probe(model: PreTrainedModel | PeftModel) -> Float[Tensor, "pos vocab"]:
    """Logits of a few tokens, in float32."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    tokens = torch.randint(len(weight), (1, _PROBED), generator=torch.Generator().manual_seed(0))
    tokens = tokens.to(model.device)
    decoder_inputs = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    logits: Tensor = model(input_ids=tokens, **decoder_inputs).logits
    return logits[0].float()


def _require_equal(
    folder: Path,
    record: Mapping[str, object],
    apart: Float[Tensor, "pos vocab"],
    together: Float[Tensor, "pos vocab"],
    eps: float,
) -> None:
    """Refuse a merge that computes something else than the adapter does.

    eps: of the weights' dtype, to which merging rounds; errors are shares of the logits' spread.
    """
    if not (bool(apart.isfinite().all()) and bool(together.isfinite().all())):
        return  # the weights themselves are damaged, which is said where the model is looked at
    error = float((apart - together).abs().max())
    if apart.shape != together.shape or error > max(_EXACT, _ROUNDINGS * eps) * float(apart.std()):
        raise CircuitsError(
            f"{folder}: merged into its base, the adapter (type {record['peft_type']}) gives other "
            f"logits than beside it ({error:.2g} apart, of a spread of {float(apart.std()):.2g}); "
            "it cannot be merged exactly, and only what can be is supported"
        )


def _untie(model: PreTrainedModel) -> None:
    """Give the output a matrix of its own where an adapter sits on one of two tied ones; merged
    into the common one, it would change both.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    ends: list[nn.Module] = [model.get_input_embeddings(), model.get_output_embeddings()]
    if not any(isinstance(end, BaseTunerLayer) for end in ends):
        return
    plain = [end.get_base_layer() if isinstance(end, BaseTunerLayer) else end for end in ends]
    tied = plain[0].weight
    if isinstance(tied, Tensor) and tied is plain[1].weight:
        plain[1].weight = nn.Parameter(tied.detach().clone(), requires_grad=False)
