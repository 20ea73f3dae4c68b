"""Gradient interaction modifications (GIM): a gradient that self-repair hides less from.

One backward pass at the clean run, by these rules:

- attention's softmax is differentiated at a temperature: ds = P_T (dP - sum(P_T dP)), where P_T is
  softmax(s / T), T = 2;
- a norm's scale is a constant, that of queries' and keys' norms too;
- of a product each factor gets half of its gradient: values 1/2; queries and keys, whose product
  makes the weights that values are multiplied with, 1/4; both factors of a gated MLP 1/2.

Activation functions keep their gradient.

Source: Edin et al. (2025), "GIM: Improved Interpretability for Large Language Models" (arXiv
2505.17630). Rules as in the repository corticph/gim at 7e31c65 of 2026-08-18, which is later than
its release 0.1.4: that one leaves gated MLPs alone. Other than there: on plain Hugging Face models
the repository changes neither a softmax inside scaled_dot_product_attention nor norms that are no
torch class (Llama's, say); here every model gets every rule, as its TransformerLens models do
there. The last softmax, if a metric has one, keeps its gradient. Cost: three forward passes and one
backward as EAP, and attention's weights twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from circuits.attribution.corrected import CorrectedMethod
from circuits.errors import CircuitsError
from circuits.models.backward.rules import BackwardRules
from circuits.planning.costs import softer_phases, softer_work
from circuits.planning.jobs import CostModel


@dataclass(frozen=True)
class GIM(CorrectedMethod):
    """temperature: of the softmax where it is differentiated; 1 is the true gradient's."""

    name: ClassVar[str] = "gim"
    cost: ClassVar[CostModel] = CostModel(
        "gim",
        "one backward pass at the clean run, softmax softened and products halved",
        softer_phases,
        softer_work,
        splits=True,
        recomputes=True,
    )
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise CircuitsError(f"temperature={self.temperature}: it must be above 0")

    @property
    def rules(self) -> BackwardRules:
        """Of the repository, with this temperature."""
        return BackwardRules(
            frozen_norms=True,
            gate_share=0.5,
            score_share=0.25,
            value_share=0.5,
            temperature=self.temperature,
        )
