"""Circuits run side by side against `CircuitRunner`, which is tested against the oracle."""

import pytest
import torch
from conftest import CONFIGS

from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.intervention.ablation import constants
from circuits.intervention.batched_runner import BatchedCircuitRunner


def random_masks(layout, shares, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.stack(
        [(torch.rand(layout.shape, generator=draw) < share) & layout.mask for share in shares]
    )


def expected(model, batch, keep):
    executor = CircuitRunner(model, batch)
    return torch.stack([executor.logits(Circuit(model.layout, mask)) for mask in keep])


def close(found, reference):
    assert float(reference.abs().max()) > 0.1
    assert float((found - reference).abs().max()) <= 1e-5 * float(reference.abs().max())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.exhaustive_but("gpt2", "llama", "gemma2", "gpt-neox", "gptj", "opt", "bloom")
def test_copies_equal_the_executor(name, hooked, random_pairs):
    model = hooked(name)
    batch = next(random_pairs(n=2).batches(2))
    stacked = BatchedCircuitRunner(model, batch)
    keep = random_masks(model.layout, [0.0, 0.05, 0.2, 0.5, 0.9, 1.0])
    reference = expected(model, batch, keep)
    assert float((reference[0] - reference[-1]).abs().max()) > 1e-2
    close(stacked.logits(keep), reference)
    for copy in range(len(keep)):
        close(stacked.logits(keep[copy : copy + 1]), reference[copy : copy + 1])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.exhaustive_but("gpt2", "llama", "gemma2", "gpt-neox", "gptj", "opt", "bloom")
def test_parts_that_nothing_reads_are_left_out_wherever_they_are(name, hooked, random_pairs):
    model = hooked(name)
    layout = model.layout
    batch = next(random_pairs(n=2).batches(2))
    keep = random_masks(layout, [0.6, 0.9])
    keep[:, layout.head_rows(1)] = keep[:, layout.mlp_row(0)] = False
    close(BatchedCircuitRunner(model, batch).logits(keep), expected(model, batch, keep))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.exhaustive_but("gpt2", "llama", "gemma2", "opt")
def test_circuits_near_a_settled_one_equal_the_executor(name, hooked, random_pairs):
    """Whatever they differ in from it, and whatever was settled before."""
    model = hooked(name)
    layout = model.layout
    batch = next(random_pairs(n=2).batches(2))
    stacked, alone = (BatchedCircuitRunner(model, batch) for _ in range(2))
    for share, seed in ((0.6, 1), (0.3, 2)):
        mask = random_masks(layout, [share], seed)[0]
        stacked.settle(mask)
        keep = mask.repeat(6, 1, 1)
        draw = torch.Generator().manual_seed(seed)
        for copy in keep[1:]:
            place = layout.mask.nonzero()[torch.randint(layout.n_edges, (8,), generator=draw)]
            copy[place[:, 0], place[:, 1]] ^= True
        reference = expected(model, batch, keep)
        assert float((reference[0] - reference[1:]).abs().max()) > 1e-4
        close(stacked.logits(keep), reference)
        alone.settle(mask)
        assert torch.equal(stacked.logits(keep[3:5]), alone.logits(keep[3:5]))
        alone = BatchedCircuitRunner(model, batch)


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "olmo2"])
@pytest.mark.exhaustive_but("gemma2")
def test_heads_before_a_norm_of_their_own_change_with_those_that_nothing_reads(
    name, hooked, random_pairs
):
    """They share its scale. One circuit alone: in several, most heads are read somewhere."""
    model = hooked(name)
    batch = next(random_pairs(n=2).batches(2))
    stacked = BatchedCircuitRunner(model, batch)
    for seed in range(4):
        keep = random_masks(model.layout, [0.3], seed)
        reference = expected(model, batch, keep)
        assert float((reference - stacked.clean).abs().max()) > 1e-2
        close(stacked.logits(keep), reference)


def test_without_room_sums_are_made_anew(hooked, random_pairs, monkeypatch):
    model = hooked("llama")
    batch = next(random_pairs(n=2).batches(2))
    keep = random_masks(model.layout, [0.3, 0.6, 0.9])
    monkeypatch.setattr("circuits.intervention.batched_runner.HELD_DIFFERENCES", 0)
    stacked = BatchedCircuitRunner(model, batch)
    stacked.settle(keep[1])
    close(stacked.logits(keep), expected(model, batch, keep))
    assert stacked.settled.sums._differences._kept is None
    assert not any(sums is not None for sums in stacked.settled.sums._kept.values())


def test_only_what_differs_from_the_settled_circuit_runs(hooked, random_pairs):
    """Layer 1's MLP lacks another edge; only layer 2's MLP reads it."""
    model = hooked("gpt2")
    layout = model.layout
    batch = next(random_pairs(n=2).batches(2))
    mask = layout.mask.clone()
    mask[layout.mlp_row(1)] = False
    mask[layout.mlp_row(1), layout.mlp_column(2)] = True
    stacked, ran = BatchedCircuitRunner(model, batch), []
    stacked.settle(mask)
    keep = mask.repeat(2, 1, 1)
    keep[:, layout.mlp_row(0), layout.mlp_column(1)] = False
    handles = [
        module.register_forward_hook(lambda *_, name=(layer, name): ran.append(name))
        for layer, block in enumerate(model.hf.transformer.h)
        for name, module in (("mlp", block.mlp.c_fc), ("attention", block.attn.c_attn))
    ]
    found = stacked.logits(keep)
    for handle in handles:
        handle.remove()
    assert ran == [(1, "mlp"), (2, "mlp")]
    close(found, expected(model, batch, keep))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_layers_before_the_first_cut_are_not_run(name, hooked, random_pairs):
    """Cuts at one reader, whatever it is, run from its layer on and change what they should."""
    model = hooked(name)
    layout = model.layout
    batch = next(random_pairs(n=2).batches(2))
    stacked = BatchedCircuitRunner(model, batch)
    moved = 0
    for column in range(0, layout.shape[1], 3):
        keep = layout.mask.repeat(2, 1, 1)
        keep[0, 0, column] = False
        keep[1, :, column] = False
        before = stacked.layers_run
        found = stacked.logits(keep)
        layer = layout.reader_nodes[column].layer
        assert stacked.layers_run - before == 2 * (3 - (3 if layer is None else layer))
        close(found, expected(model, batch, keep))
        moved += bool((found[0] - stacked.clean).abs().max() > 1e-3)
    assert moved > 5


@pytest.mark.parametrize("ablation", ["zero", "mean", "mean-positional"])
def test_constants_equal_the_executor(ablation, hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=3, lengths=[9, 7, 8])
    batch, constant = next(pairs.batches(3)), constants(ablation, model, pairs)
    keep = random_masks(model.layout, [0.0, 0.1, 0.5, 0.97])
    executor = CircuitRunner(model, batch, constant)
    reference = torch.stack([executor.logits(Circuit(model.layout, mask)) for mask in keep])
    assert float((reference[0] - CircuitRunner(model, batch).corrupted).abs().max()) > 1e-2
    stacked = BatchedCircuitRunner(model, batch, constant)
    close(stacked.logits(keep), reference)
    # With zeros, nothing reaches the logits of a model without biases.
    assert torch.allclose(stacked.corrupted, executor.corrupted, atol=1e-5)


def test_padded_batches_and_what_nothing_reads(hooked, random_pairs):
    """Two MLPs and an attention are unread: they are not run, and nothing changes for it."""
    model = hooked("gpt2")
    layout = model.layout
    batch = random_pairs(n=3, lengths=[12, 7, 9], answers=2).batch([0, 1, 2])
    keep = random_masks(layout, [0.5, 0.7, 0.99])
    keep[:, layout.mlp_row(1)] = keep[:, layout.mlp_row(2)] = False
    keep[:, layout.head_rows(1)] = False
    stacked, ran = BatchedCircuitRunner(model, batch), []
    blocks = model.hf.transformer.h
    handles = [
        module.register_forward_hook(lambda *_, name=(layer, name): ran.append(name))
        for layer, block in enumerate(blocks)
        for name, module in (("mlp", block.mlp.c_fc), ("attention", block.attn.c_attn))
    ]
    found = stacked.logits(keep)
    for handle in handles:
        handle.remove()
    assert ran == [(0, "attention"), (0, "mlp"), (2, "attention")]
    close(found, expected(model, batch, keep))
    assert all("forward" not in vars(module) for module in model.hf.modules())


def test_sums_of_nothing_are_not_kept(hooked, random_pairs):
    """They take no room, so that only the number of circuits would bound how many there are."""
    model = hooked("llama")
    layout = model.layout
    runner = BatchedCircuitRunner(model, random_pairs(n=1).batch([0]), alike=False, held=0)
    for edge in layout.mask.nonzero().tolist()[::5]:
        keep = layout.mask.clone()
        keep[tuple(edge)] = False
        runner.logits(keep[None])
    assert not runner.full.sums._kept and not runner.full.sums_at_answers._kept
