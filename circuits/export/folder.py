"""The ablated model on disk: a plain Hugging Face folder that says where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from circuits.errors import CircuitsError
from circuits.export.ablated import ablated_model
from circuits.graph import AnyCircuit
from circuits.graph.provenance import ModelRecord, Provenance
from circuits.intervention import CircuitRunner, MeanActivations, constants
from circuits.models import HookedModel
from circuits.provenance import describe_model
from circuits.runtime.files import atomic_path
from circuits.runtime.result_file import ResultFile
from tasks.pairs import PairSet

RECORD = "ablated_model.json"
CLOSE = 1e-5
"""Of the largest logit: how far the exported model may be from the executor."""
_CHECKED = 4  # pairs that logits are compared on


class AblatedModel(ResultFile):
    """What stands beside the weights of an ablated model.

    model: the whole model. kept: units that the circuit keeps, of `of`. level: what they are.
    ablation: what stands in for the others.
    difference: the largest between this model's logits and the executor's, as a share of the
        largest logit, on `n_checked` pairs.
    circuit: the circuit's provenance.
    """

    KIND: ClassVar[str] = "ablated-model"

    model: ModelRecord
    level: str
    kept: int
    of: int
    ablation: Literal["zero", "mean"]
    difference: float
    n_checked: int
    circuit: Provenance


def export_ablated(
    model: HookedModel,
    circuit: AnyCircuit,
    folder: str | Path,
    pairs: PairSet,
    *,
    means: MeanActivations | None = None,
) -> AblatedModel:
    """Write the ablated model as a folder that `from_pretrained` of transformers reads.

    Args:
        model: the model; it stays as it is.
        circuit: of nodes or neurons.
        folder: where to; one that is there is replaced where it holds an exported model.
        pairs: whose clean prompts the exported model is compared with the executor on.
        means: as for `ablated_model`.

    Returns:
        What was written beside the weights, ablated_model.json; circuit.json is the circuit.

    Raises:
        CircuitsError: where the model cannot be exported, gives other logits than the executor, or
            the folder holds something else.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / RECORD).is_file() and any(folder.iterdir()):
        raise CircuitsError(f"{folder}: exists and is no exported model; choose another folder")
    hf = ablated_model(model, circuit, means)
    difference = _difference(model, HookedModel(hf, None, model.name), circuit, pairs, means)
    if difference > CLOSE:
        raise CircuitsError(
            f"the exported model's logits differ from the executor's by {difference:.1e} of the "
            "largest; it is not written"
        )
    record = AblatedModel(
        model=describe_model(model),
        level=circuit.level,
        kept=len(circuit),
        of=len(circuit.candidates),
        ablation="zero" if means is None else "mean",
        difference=difference,
        n_checked=min(_CHECKED, len(pairs)),
        circuit=circuit.provenance,
    )
    with atomic_path(folder) as temporary:
        hf.save_pretrained(str(temporary))
        model.tokenizer.save_pretrained(str(temporary))
        circuit.save(temporary / "circuit.json")
        record.save(temporary / RECORD)
    return record


def _difference(
    model: HookedModel,
    exported: HookedModel,
    circuit: AnyCircuit,
    pairs: PairSet,
    means: MeanActivations | None,
) -> float:
    """The largest difference of logits, as a share of the largest logit."""
    batch = pairs.batch(list(range(min(_CHECKED, len(pairs))))).to(model.device)
    stand_in = constants("zero" if means is None else means, model, pairs)
    expected = CircuitRunner(model, batch, stand_in).logits(circuit)
    with torch.no_grad():
        actual: Tensor = exported.logits(batch.clean, batch)
    return float((actual - expected).abs().max() / expected.abs().max())
