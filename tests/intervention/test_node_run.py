"""Circuits of nodes and neurons against an oracle that swaps units one by one."""

import pytest
import torch
from conftest import CONFIGS, ENCODER_DECODERS
from oracles.unit_swaps import UnitSwaps

from circuits.errors import CircuitsError
from circuits.graph import Layout, NodeCircuit, Units
from circuits.intervention import CircuitRunner, MeanActivations, constants

ALL = [*CONFIGS, *ENCODER_DECODERS]


def neurons_of(model):
    return Units(model.layout, model.view.widths)


def random_units(units, seed, share=0.5, *, entered=False):
    """Some sources whole, some left out, some in part; what enters the model whole, if asked."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(len(units), generator=draw) < share
    for row in range(len(units.widths)):
        fate = float(torch.rand(1, generator=draw))
        if fate < 0.4:
            mask[units.of(row)] = fate < 0.2
    return NodeCircuit(units, mask | units.roots if entered else mask)


def close(found, expected, tolerance=1e-5):
    assert float(expected.abs().max()) > 0.1
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


class Oracle:
    """The slow way, for one batch."""

    def __init__(self, model, batch):
        layout = model.layout
        sizes = (layout.n_heads, layout.n_kv_heads, model.view.d_head)
        self.batch, self.swaps = batch, UnitSwaps(model.hf, *sizes)
        self.reads = (batch.example_index, batch.position)
        self.given = [{"input_ids": tokens} for tokens in (batch.clean, batch.corrupted)]
        if layout.n_encoder_layers:
            prompt = int(batch.position[0]) + 1
            start = torch.full((len(batch), 1), model.hf.config.decoder_start_token_id)
            fed = torch.cat([start, batch.clean[:, prompt:]], dim=1)
            self.given = [
                {"input_ids": one["input_ids"][:, :prompt], "decoder_input_ids": fed}
                for one in self.given
            ]
            self.reads = (batch.example_index, batch.position - prompt + 1)
        self.corrupted = self.swaps.run(self.given[1])[1]

    def logits(self, circuit, reference=None):
        kept = circuit.mask.split(list(circuit.units.widths))
        reference = self.corrupted if reference is None else reference
        return self.swaps.run(self.given[0], kept, reference)[0][self.reads]


@pytest.mark.parametrize("level", ["node", "neuron"])
@pytest.mark.parametrize("name", ALL)
def test_random_circuits_equal_the_oracle(name, level, hooked, random_pairs):
    model = hooked(name)
    batch = next(random_pairs(n=2, answers=3).batches(2))
    executor, oracle = CircuitRunner(model, batch), Oracle(model, batch)
    units = neurons_of(model) if level == "neuron" else Units.of_nodes(model.layout)
    for seed, share in enumerate([0.02, 0.2, 0.5, 0.8, 0.98]):
        circuit = random_units(units, seed, share)
        found = executor.logits(circuit)
        close(found, oracle.logits(circuit))
        assert float((found - executor.clean).abs().max()) > 1e-3


@pytest.mark.parametrize("level", ["node", "neuron"])
@pytest.mark.parametrize("name", ALL)
def test_everything_is_clean_and_nothing_is_corrupted(name, level, hooked, random_pairs):
    model = hooked(name)
    executor = CircuitRunner(model, next(random_pairs(n=3).batches(3)))
    units = neurons_of(model) if level == "neuron" else Units.of_nodes(model.layout)
    assert float((executor.clean - executor.corrupted).abs().max()) > 1e-2
    close(executor.logits(NodeCircuit.of(units, []).with_all()), executor.clean)
    close(executor.logits(NodeCircuit.of(units, [])), executor.corrupted)
    without_input = NodeCircuit(units, ~units.roots)
    close(executor.logits(without_input), executor.corrupted)


@pytest.mark.parametrize("name", [name for name in ALL if name != "bart"])
def test_nodes_are_all_edges_that_leave_them(name, hooked, random_pairs):
    model = hooked(name)
    executor = CircuitRunner(model, next(random_pairs(n=2).batches(2)))
    for seed in range(4):
        circuit = random_units(Units.of_nodes(model.layout), seed)
        close(executor.logits(circuit), executor.logits(circuit.edges()))


@pytest.mark.parametrize("ablation", ["mean", "mean-positional", "zero"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gptj", "t5"])
def test_constants_stand_in_for_nodes_as_for_edges(name, ablation, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=3, lengths=[9, 6, 8], answers=2)
    executor = CircuitRunner(model, pairs.batch([0, 1, 2]), constants(ablation, model, pairs))
    for seed in range(3):
        entered = ablation == "zero"  # or nothing is left in a model without biases
        circuit = random_units(Units.of_nodes(model.layout), seed, entered=entered)
        found = executor.logits(circuit)
        close(found, executor.logits(circuit.edges()))
        assert float((found - executor.clean).abs().max()) > 1e-2


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "gemma2", "bart"])
def test_all_or_none_of_a_nodes_units_are_the_node(name, hooked, random_pairs):
    model = hooked(name)
    executor = CircuitRunner(model, next(random_pairs(n=2).batches(2)))
    for seed in range(3):
        nodes = random_units(Units.of_nodes(model.layout), seed)
        spread = [bit.expand(n) for bit, n in zip(nodes.mask, model.view.widths, strict=True)]
        units = NodeCircuit(neurons_of(model), torch.cat(spread))
        close(executor.logits(units), executor.logits(nodes))


def means_by_hand(model, pairs, positional, length):
    """Every unit's mean over examples, none of them padded, by a plain loop."""
    runs = [Oracle(model, pairs.batch([place])) for place in range(len(pairs))]
    seen = [one.swaps.run(one.given[0])[1] for one in runs]

    def mean(values):
        if not positional:
            return torch.cat([one[0] for one in values]).mean(dim=0).expand(1, length, -1)
        here = [[one[0, at] for one in values if at < one.shape[1]] for at in range(length)]
        return torch.stack([torch.stack(one).mean(dim=0) for one in here])[None]

    reference = {}
    for row, first in seen[0].items():
        if torch.is_tensor(first):
            reference[row] = mean([one[row] for one in seen])
        else:
            parts = zip(*[one[row] for one in seen], strict=True)
            reference[row] = tuple(mean(p) if torch.is_tensor(p[0]) else p[0] for p in parts)
    return reference


@pytest.mark.parametrize("ablation", ["mean", "mean-positional", "zero"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt-neox"])
def test_constants_stand_in_for_neurons(name, ablation, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=3, lengths=[9, 6, 8], answers=2)
    reference = means_by_hand(model, pairs, ablation == "mean-positional", 10)
    if ablation == "zero":
        reference = {
            row: torch.zeros_like(one)
            if torch.is_tensor(one)
            else tuple(torch.zeros_like(part) if torch.is_tensor(part) else 1.0 for part in one)
            for row, one in reference.items()
        }
    stand_in = constants(ablation, model, pairs, neurons=True)
    executor = CircuitRunner(model, pairs.batch([0, 1, 2]), stand_in)
    oracle = Oracle(model, pairs.batch([0]))
    for seed, share in enumerate([0.2, 0.5, 0.8]):
        circuit = random_units(neurons_of(model), seed, share, entered=ablation == "zero")
        found = executor.logits(circuit)[executor.batch.example_index == 0]
        close(found, oracle.logits(circuit, reference))


def test_padding_changes_nothing(hooked, random_pairs):
    model = hooked("llama")
    pairs = random_pairs(n=3, lengths=[12, 7, 9], answers=2)
    circuit = random_units(neurons_of(model), 0)
    together = pairs.batch([0, 1, 2])
    logits = CircuitRunner(model, together).logits(circuit)
    for place in range(3):
        alone = CircuitRunner(model, pairs.batch([place])).logits(circuit)
        close(logits[together.example_index == place], alone)


def test_a_circuit_costs_one_pass_and_neurons_one_more_a_batch(hooked, random_pairs, monkeypatch):
    model = hooked("gpt2")
    executor = CircuitRunner(model, next(random_pairs(n=2).batches(2)))
    passes, whole = [], type(model).logits
    monkeypatch.setattr(
        type(model), "logits", lambda *given, **rest: passes.append(1) or whole(*given, **rest)
    )
    counts = []
    for units in (Units.of_nodes(model.layout), neurons_of(model), neurons_of(model)):
        executor.logits(random_units(units, 0))
        counts.append(len(passes))
    assert counts == [1, 3, 4]


def test_refusals(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=2)
    executor = CircuitRunner(model, pairs.batch([0, 1]))
    with pytest.raises(CircuitsError, match="2 layers, 4 heads cannot run on one with 3 layers"):
        executor.logits(NodeCircuit.of(Layout(2, 4, 4), ["m0"]))
    widths = tuple(1 if n == 1 else n + 1 for n in model.view.widths)
    with pytest.raises(CircuitsError, match=r"9 units of a0\.h0 cannot run on a model with 8"):
        executor.logits(NodeCircuit.of(Units(model.layout, widths), ["input"]))
    means = MeanActivations.of(model, pairs)
    assert not means.hidden
    by_means = CircuitRunner(model, pairs.batch([0, 1]), means.states)
    with pytest.raises(
        CircuitsError, match=r"take them by MeanActivations.of\(..., neurons=True\)"
    ):
        by_means.logits(random_units(neurons_of(model), 0))
    some = random_units(Units.of_nodes(model.layout), 0)
    close(by_means.logits(some), by_means.logits(some.edges()))
