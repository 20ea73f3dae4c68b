"""Gates' gradients against plain autograd through every edge, or unit, by itself."""

from dataclasses import replace

import pytest
import torch
from conftest import CONFIGS, ENCODER_DECODERS, VOCABULARY
from oracles.gates import constant_sources, edge_logits, unit_logits

from circuits.errors import CircuitsError
from circuits.graph import Circuit, NodeCircuit, Units
from circuits.intervention import CircuitRunner, MeanActivations, constants
from circuits.intervention.gated_runner import GatedRunner

ALL = [*CONFIGS, *ENCODER_DECODERS]
LINEAR = [name for name in ALL if name != "bart"]
DIRECTION = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(2))


def judged(batch):
    """A loss that every logit has a part in."""

    def loss(logits):
        values = logits @ DIRECTION
        return values.new_zeros(len(batch)).index_add(0, batch.example_index, values)

    return loss


def drawn(*shape, seed=1):
    """Gates of which a quarter each is shut and open, and the rest is between."""
    draw = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return (2 * draw - 0.5).clamp(0, 1)


def close(found, expected, tolerance=1e-5):
    assert float(expected.abs().max()) > 1e-3
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.exhaustive_but("gpt2", "llama", "gemma2", "gptj", "opt", "t5")
def test_edge_gradients_equal_the_oracle(name, hooked, random_pairs):
    model = hooked(name)
    batch = next(random_pairs(n=2, answers=3).batches(2))
    gates = drawn(*model.layout.shape) * model.layout.mask
    found, gradient = GatedRunner(model, batch).gradient(gates, judged(batch))
    leaf = gates.clone().requires_grad_()
    expected = judged(batch)(edge_logits(model, batch, leaf))
    expected.sum().backward()
    close(found, expected.detach())
    close(gradient, leaf.grad * model.layout.mask)
    assert float((gradient[model.layout.mask] != 0).float().mean()) > 0.5


@pytest.mark.parametrize("level", ["node", "neuron"])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.exhaustive_but("gpt2-neuron", "llama-node", "gemma2-*", "bart-node")
def test_unit_gradients_equal_the_oracle(name, level, hooked, random_pairs):
    model = hooked(name)
    batch = next(random_pairs(n=2, answers=3).batches(2))
    widths = model.view.widths
    units = Units.of_nodes(model.layout) if level == "node" else Units(model.layout, widths)
    gates = drawn(len(units))
    runner = GatedRunner(model, batch)
    found, gradient = runner.gradient(gates, judged(batch), units=units)
    leaf = gates.clone().requires_grad_()
    expected = judged(batch)(unit_logits(model, batch, units, leaf))
    expected.sum().backward()
    close(found, expected.detach())
    close(gradient, leaf.grad)
    assert not gradient[units.roots].any() and gradient[~units.roots].any()


@pytest.mark.parametrize("ablation", ["corrupted", "mean", "zero"])
def test_gates_of_0_and_1_are_a_circuit(ablation, hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=3)
    batch = next(pairs.batches(3))
    stand_in = constants(ablation, model, pairs)
    runner, slow = GatedRunner(model, batch, stand_in), CircuitRunner(model, batch, stand_in)
    mask = (drawn(*model.layout.shape) > 0.5) & model.layout.mask
    seen = []
    runner.gradient(mask.float(), lambda logits: seen.append(logits.detach()) or logits.sum(dim=1))
    close(seen[0], slow.logits(Circuit(model.layout, mask)))
    units = Units.of_nodes(model.layout)
    kept = (drawn(len(units)) > 0.5) | units.roots
    runner.gradient(
        kept.float(), lambda logits: seen.append(logits.detach()) or logits.sum(dim=1), units=units
    )
    close(seen[1], slow.logits(NodeCircuit(units, kept)))
    assert float((seen[0] - seen[1]).abs().max()) > 1e-2


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_constants_have_a_gradient(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=3)
    batch = next(pairs.batches(3))
    means = MeanActivations.of(model, pairs)
    leaves = _leaves(means)
    gates = (0.1 + 0.8 * drawn(*model.layout.shape)) * model.layout.mask
    runner = GatedRunner(model, batch, means.states)
    found, gradient = runner.gradient(gates, judged(batch), constants=leaves)
    mine, edges = _leaves(means), gates.clone().requires_grad_()
    sources = constant_sources(model, mine)
    expected = judged(batch)(edge_logits(model, batch, edges, sources))
    expected.sum().backward()
    close(found, expected.detach())
    close(gradient, edges.grad * model.layout.mask)
    for part in ("inputs", "z", "mlp"):
        for one, other in zip(getattr(leaves, part), getattr(mine, part), strict=True):
            close(one.grad, other.grad, 3e-5)


def _leaves(means):
    parts = {
        part: tuple(one.clone().requires_grad_() for one in getattr(means, part))
        for part in ("inputs", "z", "mlp")
    }
    return replace(means, **parts)


@pytest.mark.parametrize("block", [1, 20, 1000])
def test_blocks_of_any_size_give_the_same(block, hooked, random_pairs, monkeypatch):
    model = hooked("gpt2")
    batch = next(random_pairs(n=2).batches(2))
    runner, gates = GatedRunner(model, batch), drawn(*model.layout.shape)
    expected = runner.gradient(gates, judged(batch))[1]
    monkeypatch.setattr("circuits.intervention.gated_edges._BLOCK", block)
    close(runner.gradient(gates, judged(batch))[1], expected)


def test_edges_of_post_norm_models_are_refused(hooked, random_pairs):
    model = hooked("bart")
    runner = GatedRunner(model, next(random_pairs(n=2).batches(2)))
    with pytest.raises(CircuitsError, match="take nodes or neurons"):
        runner.gradient(torch.ones(model.layout.shape), lambda logits: logits.sum(dim=1))
