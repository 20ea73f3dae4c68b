"""Runs that are recorded once, for both directions, against those that each makes for itself."""

import pytest
import torch
from conftest import CONFIGS

from circuits.explorer.live.typed import swapped
from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.intervention.batched_runner import BatchedCircuitRunner
from circuits.intervention.patching.paired_runs import PairedRuns
from circuits.intervention.patching.sites import SITES
from circuits.intervention.recorded_runs import RecordedRuns

RECORDED = ("resid_pre", "resid_post", "attn_out", "mlp_out", "z", "q", "k", "v")


def close(found, reference):
    assert float(reference.abs().max()) > 1e-3
    assert float((found - reference).abs().max()) <= 1e-5 * float(reference.abs().max())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.exhaustive_but("gpt2", "llama", "gemma2")
def test_runners_of_shared_runs_equal_the_executor(name, hooked, random_pairs):
    model = hooked(name)
    pairs, layout = random_pairs(n=1), model.layout
    batch, other = pairs.batch([0]), swapped(pairs).batch([0])
    both = RecordedRuns.of(model, batch)
    draw = torch.Generator().manual_seed(0)
    shares = (0.0, 0.3, 0.9)
    keep = torch.stack(
        [(torch.rand(layout.shape, generator=draw) < s) & layout.mask for s in shares]
    )
    for side, runs in ((batch, both), (other, both.swapped())):
        executor = CircuitRunner(model, side)
        runner = BatchedCircuitRunner(model, side, alike=False, held=0, runs=runs)
        close(runner.clean, executor.clean)
        close(runner.corrupted, executor.corrupted)
        for mask in keep:
            close(runner.logits(mask[None])[0], executor.logits(Circuit(layout, mask)))
    assert float((both.clean.logits - both.corrupted.logits).abs().max()) > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.exhaustive_but("gpt2", "llama", "gemma2")
def test_places_recorded_in_the_runs_are_those_of_runs_of_their_own(name, hooked, random_pairs):
    model = hooked(name)
    batch, layers = random_pairs(n=1).batch([0]), range(model.layout.n_layers)
    together, alone = PairedRuns(model, batch, RECORDED), PairedRuns(model, batch)
    for side in ("clean", "corrupted"):
        together.base(side)
    ran = []
    handle = model.hf.base_model.register_forward_hook(lambda *_: ran.append(1))
    found = {
        (site, side): together.donor(SITES[site], side, layers)
        for site in RECORDED
        for side in ("clean", "corrupted")
    }
    handle.remove()
    assert not ran
    for (site, side), values in found.items():
        expected = alone.donor(SITES[site], side, layers)
        for layer in layers:
            close(values[layer], expected[layer])
