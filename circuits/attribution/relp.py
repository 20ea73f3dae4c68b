"""Relevance patching (RelP): propagation coefficients of LRP in the place of the gradient.

One backward pass at the clean run, by these rules (LRP's names in brackets):

- a norm's scale is a constant (LN-rule), that of queries' and keys' norms too;
- an activation function multiplies with f(x) / x (identity rule);
- each factor of a gated product gets half of its gradient (half rule);
- attention keeps its gradient by default. `attention="constant"` takes its weights for constants
  (AH-rule): then only values are propagated, and every edge into queries and keys scores 0;
- matrices keep their gradient (0-rule).

With `attention="constant"`, and without biases and a corrupted prompt of zeros, the relevance that
enters a layer is what leaves it.

Source: Rezaei Jafari, Eberle, Khakzar & Nanda (2025), "RelP: Faithful and Efficient Circuit
Discovery in Language Models via Relevance Patching" (arXiv 2508.21258). Rules as in the repository
FarnoushRJ/RelP at aa0e228 of 2025-09-01: its default list is LN-, identity and half rule, and its
AH-rule is an option there, though the paper's table of rules names it. Other than there: the
numbers at which f(x) / x is taken are not pushed away from 0 by 1e-6 (where x is 0 the coefficient
is 0 in both), and the coefficients are those of the clean run, into which the corrupted outputs are
patched, where the repository's demonstration patches clean ones into the corrupted run. Cost: three
forward passes and one backward, as EAP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from circuits.attribution.corrected import CorrectedMethod
from circuits.errors import CircuitsError
from circuits.models.backward.rules import BackwardRules
from circuits.planning.costs import path_phases, path_work
from circuits.planning.jobs import CostModel

Attention = Literal["gradient", "constant"]


@dataclass(frozen=True)
class RelP(CorrectedMethod):
    """attention: "gradient" differentiates attention's weights, "constant" does not."""

    name: ClassVar[str] = "relp"
    cost: ClassVar[CostModel] = CostModel(
        "relp",
        "one backward pass at the clean run, by rules of relevance propagation",
        path_phases,
        path_work,
        splits=True,
        recomputes=True,
    )
    attention: Attention = "gradient"

    def __post_init__(self) -> None:
        if self.attention not in get_args(Attention):
            raise CircuitsError(
                f"unknown attention {self.attention!r}; known: {', '.join(get_args(Attention))}"
            )

    @property
    def rules(self) -> BackwardRules:
        """LN-rule, identity rule and half rule; AH-rule if attention is constant."""
        return BackwardRules(
            frozen_norms=True,
            activation_ratios=True,
            gate_share=0.5,
            score_share=0.0 if self.attention == "constant" else None,
        )
