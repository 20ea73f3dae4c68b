"""Writes an ablation into the weights.

A head that is left out gives a constant z: nothing (zero ablation) or its mean. So the rows of the
output matrix that read it are set to 0, and what they would make of the mean goes into the bias.
An MLP, or some of its neurons, likewise. What hangs on the prompt (the corrupted run, means by
position) or on one reader (edges) no weights can say, and is refused; so are means where the matrix
has no bias, and norms behind what writes, whose scale hangs on the run.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from circuits.errors import CircuitsError, UnsupportedError
from circuits.graph import AnyCircuit, NodeCircuit
from circuits.intervention import MeanActivations
from circuits.models import HookedModel
from circuits.models.plain import quantisation
from circuits.models.view import MLP, View, input_major


def ablated_model(
    model: HookedModel, circuit: AnyCircuit, means: MeanActivations | None = None
) -> PreTrainedModel:
    """A copy of the model whose weights leave out what the circuit leaves out.

    Args:
        model: the model; it stays as it is.
        circuit: of nodes or neurons, with everything that enters the model kept.
        means: what stands in for what is left out, over all positions ("mean"); with neurons for a
            circuit of neurons. None puts nothing there (zero ablation).

    Returns:
        A plain Hugging Face model with the logits that the executor gives for this circuit.

    Raises:
        CircuitsError: for a circuit of edges or of another model, and means by position.
        UnsupportedError: where no weights of this architecture can say it.
    """
    node_circuit = _checked(model, circuit, means)
    hf: PreTrainedModel = copy.deepcopy(model.hf)
    view = HookedModel(hf, None, model.name).view
    with torch.no_grad():
        _leave_out_heads(view, node_circuit, means)
        _leave_out_mlps(view, node_circuit, means)
    return hf


def _checked(model: HookedModel, circuit: AnyCircuit, means: MeanActivations | None) -> NodeCircuit:
    if not isinstance(circuit, NodeCircuit):
        raise CircuitsError(
            "a circuit of edges cannot be written into weights: what a node gives to one reader it "
            "would give to all; score and select nodes or neurons (--level node)"
        )
    if circuit.layout != model.layout:
        raise CircuitsError(
            f"a circuit of a model with {circuit.layout.summary}, and this one has "
            f"{model.layout.summary}"
        )
    if not bool(circuit.mask[circuit.units.roots].all()):
        raise CircuitsError("the circuit leaves out the input; a model without it reads no prompt")
    if means is not None and means.ablation != "mean":
        raise CircuitsError(
            f"{means.ablation}: weights know no positions; take the mean over all of them"
        )
    if (scheme := quantisation(model.hf)) is not None:
        raise UnsupportedError(f"{model.name}: its weights are quantised ({scheme}); load it plain")
    if not model.view.linear:
        raise UnsupportedError(f"{model.name}: its norms rescale the stream itself")
    return circuit


def _leave_out_heads(view: View, circuit: NodeCircuit, means: MeanActivations | None) -> None:
    for index, attention in enumerate(view.attentions):
        rows = attention.place.rows
        first, last = circuit.units.of(rows.start), circuit.units.of(rows.stop - 1)
        kept = circuit.mask[first.start : last.stop].view(attention.n_heads, -1)
        if bool(kept.all()):
            continue
        if attention.post is not None:
            raise UnsupportedError(
                f"{attention.place.prefix}: a norm follows the heads, and its scale hangs on the "
                "run; it cannot be written into weights"
            )
        wide = len(input_major(attention.output)) // attention.n_heads
        left_out = ~kept.expand(attention.n_heads, wide).flatten()
        _leave_out(attention.output, left_out, None if means is None else means.z[index].flatten())


def _leave_out_mlps(view: View, circuit: NodeCircuit, means: MeanActivations | None) -> None:
    for index, mlp in enumerate(view.mlps):
        kept = circuit.mask[circuit.units.of(mlp.place.row)]
        if bool(kept.all()):
            continue
        if bool(kept.any()):
            if means is not None and not means.hidden:
                raise CircuitsError(
                    "these means are of whole MLPs; for circuits of neurons take them by "
                    "MeanActivations.of(..., neurons=True)"
                )
            mean = None if means is None else means.hidden[index].flatten()
            _leave_out(mlp.hidden, ~kept, mean)
        else:
            _silence(mlp, None if means is None else means.mlp[index].flatten())


def _leave_out(
    module: nn.Module, left_out: Bool[Tensor, " input"], mean: Float[Tensor, " input"] | None
) -> None:
    """Let a matrix read a constant in place of some of its inputs."""
    weight = input_major(module)
    left_out = left_out.to(weight.device)
    if mean is not None:
        added = mean.to(weight)[left_out] @ weight[left_out]
        _bias(module).add_(added)
    weight[left_out] = 0


def _silence(mlp: MLP, mean: Float[Tensor, " d_model"] | None) -> None:
    """Let a whole MLP write a constant."""
    if mlp.output is not mlp.hidden and mlp.hidden not in {*mlp.output.modules()}:
        raise UnsupportedError(
            f"{mlp.place.name}: a norm follows the MLP; it cannot be written into weights"
        )
    weight = input_major(mlp.hidden)
    weight.zero_()
    if mean is not None:
        _bias(mlp.hidden).copy_(mean.to(weight))
    elif getattr(mlp.hidden, "bias", None) is not None:
        _bias(mlp.hidden).zero_()


def _bias(module: nn.Module) -> Tensor:
    bias = getattr(module, "bias", None)
    if not isinstance(bias, Tensor):
        raise UnsupportedError(
            "this architecture's output matrices have no bias that could hold a mean; take zero "
            "ablation"
        )
    return bias
