"""Where a sweep's figures come from."""

from __future__ import annotations

from circuits.graph import Provenance
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.provenance import describe_model, describe_pairs, versions
from tasks.pairs import PairSet


def origin(model: HookedModel, pairs: PairSet, options: RunOptions) -> Provenance:
    """The model, the pairs, the versions, and the batch size that was asked for."""
    return Provenance(
        method="patching",
        batch_size=options.batch_size,
        data=describe_pairs(pairs),
        pairs=tuple(pairs.fingerprints),
        model=describe_model(model),
        versions=versions(),
    )
