"""The metric of many circuits at a time, where not all of them fit."""

import pytest
import torch

from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.metrics import metric_for
from circuits.search.trials import Trials


def masks(layout, count):
    """Circuits of ever more edges, the last of all."""
    draws = torch.rand(layout.shape, generator=torch.Generator().manual_seed(0))
    return [(draws <= (i + 1) / count) & layout.mask for i in range(count)]


def trials(hooked, random_pairs):
    pairs = random_pairs(n=3)
    return Trials(hooked("gpt2"), pairs, metric_for(pairs), batch_size=2)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("full"), RuntimeError("DefaultCPUAllocator: not enough memory")],
)
def test_what_does_not_fit_is_halved(error, hooked, random_pairs, monkeypatch):
    run = BatchedCircuitRunner.logits

    def small_only(self, keep):
        if len(keep) > 2:
            raise error
        return run(self, keep)

    each = trials(hooked, random_pairs)
    circuits = masks(hooked("gpt2").layout, 5)
    together = each(circuits)
    assert len({round(value, 4) for value in together}) == 5
    monkeypatch.setattr(BatchedCircuitRunner, "logits", small_only)
    assert each(circuits) == pytest.approx(together, abs=1e-5)


def test_other_failures_stay_what_they_are(hooked, random_pairs, monkeypatch):
    each = trials(hooked, random_pairs)

    def fail(self, keep):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(BatchedCircuitRunner, "logits", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        each(masks(hooked("gpt2").layout, 2))
