"""The words that options choose from, and the numbers that they allow."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from circuits.options.declared import Sensible, Within

Count = Annotated[int, Within(at_least=0)]
Positive = Annotated[int, Within(at_least=1)]
Fraction = Annotated[float, Within(above=0, at_most=1)]
Share = Annotated[float, Within(at_least=0, at_most=1)]
PositiveRatio = Annotated[Share, Sensible(0.8, 0.8, "benchmarks.md")]
"""Share of a mixed ranking that is taken by signed score."""
ScoredPairs = Annotated[
    Positive, Sensible(32, 256, "statistics.md#how-many-examples", "to score edges")
]
Resamples = Annotated[
    int, Within(at_least=100), Sensible(500, math.inf, "statistics.md#do-the-intervals-hold")
]
"""Bootstrap resamples of which an interval is made."""
HalvedPairs = Annotated[
    int, Within(at_least=2), Sensible(16, math.inf, "evaluation.md#evaluating-a-circuit")
]
"""Pairs of which one half is searched on and the other reported on."""

Dtype = Literal["float32", "bfloat16", "float16", "float64"]
Quantisation = Literal["int8", "nf4"]
"""How a quantised weight is kept: in a byte, or in 4 bits."""

Level = Literal["edge", "node", "neuron"]
"""What scores and circuits are of."""
Strategy = Literal["top-n", "widest-path", "greedy", "stable"]
"""How a ranking becomes an order, as `circuits.graph.orders` describes."""
Ranking = Literal["absolute", "signed", "mixed"]
"""What a score is worth, as `circuits.graph.rankings` describes."""
RankingOrAuto = Literal["absolute", "signed", "mixed", "auto"]
Ablation = Literal["corrupted", "mean", "mean-positional", "zero"]
"""What stands in for what is left out, as `circuits.intervention.ablation` describes."""
NullWeights = Literal["shuffled", "initial"]
"""How the weights of a model that learned nothing are made, as `circuits.models.scrambled` does."""
HeadAblation = Literal["zero", "mean"]
Quadrature = Literal[
    "midpoint",
    "corrected-midpoint",
    "gauss-legendre",
    "trapezoid",
    "left",
    "right",
    "calibrated",
    "staggered",
]
"""Where gradients are taken on the path, as `circuits.attribution.quadrature` describes."""
Perturbation = Literal["typos", "longer", "shorter", "sentence-order"]
AdapterPart = Literal["q", "k", "v", "attention-output", "mlp"]
LogFormat = Literal["csv", "tensorboard"]
LayerCriterion = Literal["attention-kl", "entropy", "hidden-state"]
"""What `diff_models` measures of each layer."""
LoraCondition = Literal[
    "circuit",
    "modules",
    "heads",
    LayerCriterion,
    "complement",
    "random",
    "standard",
    "full",
    "original-circuit",
    "original-standard",
]
"""A way of choosing what is trained, as `circuits.tuning.conditions` describes."""

SiteName = Literal[
    "resid",
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "z",
    "head",
    "q",
    "k",
    "v",
    "pattern",
    "neuron",
]
"""A name from `circuits.intervention.patching.SITES`; `resid` is short for `resid_pre`, and `head`
for `z`."""
Direction = Literal["denoise", "noise"]
Alignment = Literal["start", "end"]
SweepAxis = Literal["layer", "position", "head", "neuron"]

NetworkForm = Literal["graphml", "gexf", "gml", "dot", "json"]
"""What graph tools read, as `circuits.graph.network` describes."""
GraphForm = Literal["eap-ig", "graphml", "gexf", "gml", "dot", "json"]
ScoreSign = Literal["loss", "metric"]
GroupReduction = Literal["sum", "mean"]

RelativeTo = Literal["current", "model"]
RemovalCriterion = Literal["absolute", "signed"]
RemovalLevel = Literal["edge", "node"]
TrialOrder = Literal["backward", "forward", "random"]
