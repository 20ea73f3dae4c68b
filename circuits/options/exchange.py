"""How graph files of other packages are read."""

from __future__ import annotations

from dataclasses import dataclass

from circuits.options.choices import GroupReduction, Positive, ScoreSign
from circuits.options.declared import Options


@dataclass(frozen=True, kw_only=True)
class ImportOptions(Options):
    """What a graph file of EAP-IG or MIB does not say of itself.

    Attributes:
        kv_heads: KV heads, where there is no --model (default: one for each head, as in the file).
        score_sign: What a file's scores are the gradients of: loss, as MIB's, or metric.
        kv_reduction: EAP-IG files hold a k and a v score for each query head; here there is one
            for each KV head. How to combine those of a group: sum, or mean (for information flow
            routes).
    """

    kv_heads: Positive | None = None
    score_sign: ScoreSign = "loss"
    kv_reduction: GroupReduction = "sum"
