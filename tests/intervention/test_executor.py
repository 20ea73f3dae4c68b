"""Running on a circuit against an oracle that adds up every edge by itself."""

import pytest
import torch
from conftest import CONFIGS, ENCODER_DECODERS
from oracles.encoder_decoder import EncoderDecoderPaths
from oracles.split_paths import SplitPaths

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Layout
from circuits.intervention import CircuitRunner, constants

ALL = [*CONFIGS, *ENCODER_DECODERS]
SHARES = (0.0, 0.01, 0.05, 0.2, 0.5, 0.9, 1.0)


def oracle(model, batch, mask, reference=None):
    view = model.view
    if view.layout.n_encoder_layers:
        paths = EncoderDecoderPaths(model.hf, view.layout.n_heads, view.d_head)
        prompt = int(batch.position[0]) + 1
        start = torch.full((len(batch), 1), model.hf.config.decoder_start_token_id)
        fed = torch.cat([start, batch.clean[:, prompt:]], dim=1)
        logits = paths.execute(batch.clean[:, :prompt], batch.corrupted[:, :prompt], fed, mask)
        return logits[batch.example_index, batch.position - prompt + 1]
    split = SplitPaths(model.hf, view.layout.n_heads, view.layout.n_kv_heads, view.d_head)
    logits = split.execute(batch.clean, batch.corrupted, mask, reference)
    return logits[batch.example_index, batch.position]


def random_circuit(layout, share, seed):
    draw = torch.rand(layout.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit(layout, (draw < share) & layout.mask)


def close(found, expected, tolerance=1e-5):
    assert float(expected.abs().max()) > 0.1
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("name", ALL)
def test_full_is_clean_and_empty_is_corrupted(name, hooked, random_pairs):
    model = hooked(name)
    executor = CircuitRunner(model, next(random_pairs(n=3).batches(3)))
    assert float((executor.clean - executor.corrupted).abs().max()) > 1e-2
    close(executor.logits(Circuit.full(model.layout)), executor.clean)
    close(executor.logits(Circuit.empty(model.layout)), executor.corrupted)


@pytest.mark.parametrize("name", ALL)
def test_random_circuits_equal_the_oracle(name, hooked, random_pairs):
    model = hooked(name)
    batch = next(random_pairs(n=2, answers=3).batches(2))
    executor = CircuitRunner(model, batch)
    for seed, share in enumerate([0.02, 0.1, 0.3, 0.6, 0.9, 0.98]):
        circuit = random_circuit(model.layout, share, seed)
        close(executor.logits(circuit), oracle(model, batch, circuit.mask))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.exhaustive
def test_two_hundred_random_circuits_equal_the_oracle(name, hooked, random_pairs):
    """To 1e-5 of the largest difference that any circuit makes to a logit."""
    model = hooked(name)
    batch = next(random_pairs(n=1, answers=2).batches(1))
    executor = CircuitRunner(model, batch)
    sizes = (model.layout.n_heads, model.layout.n_kv_heads, model.view.d_head)
    _, reference = SplitPaths(model.hf, *sizes).run(batch.corrupted)
    worst, largest, seen = 0.0, 0.0, set()
    for seed in range(200):
        circuit = random_circuit(model.layout, SHARES[seed % len(SHARES)], seed)
        found, expected = executor.logits(circuit), oracle(model, batch, circuit.mask, reference)
        worst = max(worst, float((found - expected).abs().max()))
        largest = max(largest, float((expected - executor.corrupted).abs().max()))
        seen.add(len(circuit))
    assert largest > 0.1 and worst <= 1e-5 * largest
    assert {0, model.layout.n_edges} < seen and len(seen) > 50


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_each_single_edge_removed_equals_the_oracle(name, hooked, random_pairs):
    model = hooked(name)
    batch = next(random_pairs(n=1).batches(1))
    executor = CircuitRunner(model, batch)
    places = model.layout.mask.nonzero().tolist()
    moved = 0
    for row, column in places[:: len(places) // 40]:
        mask = model.layout.mask.clone()
        mask[row, column] = False
        logits = executor.logits(Circuit(model.layout, mask))
        close(logits, oracle(model, batch, mask))
        moved += bool((logits - executor.clean).abs().max() > 1e-4)
    assert moved > 20


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt-neox", "bart"])
@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize(
    ("limit", "value"),
    [("input_bytes", lambda _: 1), ("INPUTS_AT_ONCE", 7)],
    ids=["bytes", "count"],
)
@pytest.mark.exhaustive_but("*-llama", "*-bart")
def test_readers_in_blocks_of_any_size_and_either_way_of_adding(
    name, few, limit, value, hooked, random_pairs, monkeypatch
):
    monkeypatch.setattr("circuits.intervention.reader_inputs._FEW", few)
    monkeypatch.setattr(f"circuits.intervention.reader_inputs.{limit}", value)
    model = hooked(name)
    batch = next(random_pairs(n=2).batches(2))
    executor = CircuitRunner(model, batch)
    for seed, share in enumerate([0.02, 0.1, 0.6, 0.98]):
        circuit = random_circuit(model.layout, share, seed)
        close(executor.logits(circuit), oracle(model, batch, circuit.mask))


def test_projections_that_are_all_replaced_are_not_computed(hooked, random_pairs):
    model = hooked("llama")
    executor = CircuitRunner(model, next(random_pairs(n=3).batches(3)))
    projection = model.hf.get_submodule("model.layers.1.self_attn.q_proj")
    rows = []
    handle = projection.register_forward_hook(lambda _, __, output: rows.append(len(output)))
    try:
        executor.logits(random_circuit(model.layout, 0.1, 0))
        executor.logits(Circuit.full(model.layout))
    finally:
        handle.remove()
    assert rows == [0, 3]


@pytest.mark.parametrize("name", ["llama", "opt", "gptj", "t5"])
def test_mlps_that_nothing_comes_of_are_not_computed(name, hooked, random_pairs):
    model = hooked(name)
    pairs = random_pairs(n=2)
    batch = next(pairs.batches(2))
    first, last = model.view.mlps[-2:]  # nobody reads the one, and the other reads nothing
    entry = model.layout.sources[model.layout.stream_rows[-1].start]
    edges = [f"{entry}->{first.place.name}", f"{last.place.name}->logits", f"{entry}->logits"]
    circuit = Circuit.of(model.layout, edges)
    rows = []
    handles = [
        mlp.output.register_forward_hook(lambda _, __, output: rows.append(len(output)))
        for mlp in (first, last)
    ]
    try:
        found = CircuitRunner(model, batch).logits(circuit)
        counted, rows[:] = rows[-2:], []
        if name != "t5":  # constants write what no MLP writes: the last one has to run
            CircuitRunner(model, batch, constants("mean", model, pairs)).logits(circuit)
            assert rows[-2] == 0 and rows[-1] > 0
    finally:
        for handle in handles:
            handle.remove()
    assert counted == [0, 0]
    close(found, oracle(model, batch, circuit.mask))


def test_padding_changes_nothing(hooked, random_pairs):
    model = hooked("llama")
    pairs = random_pairs(n=3, lengths=[12, 7, 9], answers=2)
    circuit = random_circuit(model.layout, 0.4, 0)
    together = pairs.batch([0, 1, 2])
    logits = CircuitRunner(model, together).logits(circuit)
    for place in range(3):
        alone = CircuitRunner(model, pairs.batch([place])).logits(circuit)
        close(logits[together.example_index == place], alone)


def test_another_models_circuit_is_refused(hooked, random_pairs):
    executor = CircuitRunner(hooked("gpt2"), next(random_pairs(n=1).batches(1)))
    with pytest.raises(CircuitsError, match="12 layers, 12 heads cannot run on one with 3 layers"):
        executor.logits(Circuit.full(Layout(12, 12, 12)))


def stand_ins(model, pairs, ablation, length):
    """What each ablated source gives, by a plain loop over examples, none of them padded."""
    view = model.view
    split = SplitPaths(model.hf, view.layout.n_heads, view.layout.n_kv_heads, view.d_head)
    runs = [split.run(torch.tensor([pair.clean + pair.teacher_forced]))[1] for pair in pairs]
    if ablation == "zero":
        return split, [torch.zeros_like(source) for source in runs[0]]
    if ablation == "mean":
        means = [
            torch.cat([run[row][0] for run in runs]).mean(dim=0) for row in range(len(runs[0]))
        ]
        return split, [mean.expand(1, length, -1) for mean in means]
    places = []
    for row in range(len(runs[0])):
        here = [[r[row][0, at] for r in runs if at < r[row].shape[1]] for at in range(length)]
        places.append(torch.stack([torch.stack(values).mean(dim=0) for values in here])[None])
    return split, places


@pytest.mark.parametrize("ablation", ["zero", "mean", "mean-positional"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt-neox", "gptj", "olmo2", "opt"])
def test_constants_replace_what_is_left_out(name, ablation, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=3, lengths=[9, 6, 8], answers=2)
    split, reference = stand_ins(model, pairs, ablation, 10)
    executor = CircuitRunner(model, pairs.batch([0, 1, 2]), constants(ablation, model, pairs))
    assert float((executor.clean - executor.corrupted).abs().max()) > 1e-2
    close(executor.logits(Circuit.full(model.layout)), executor.clean)
    batch = pairs.batch([0])
    for seed, share in enumerate([0.2, 0.5, 0.8]):
        circuit = random_circuit(model.layout, share, seed)
        found = executor.logits(circuit)[executor.batch.example_index == 0]
        expected = split.execute(batch.clean, None, circuit.mask, reference)
        # The oracle takes sums of the stream away from it again; of an all but empty stream that
        # leaves rounding, which a norm divides by its epsilon.
        tolerance = 1e-4 if ablation == "zero" else 1e-5
        close(found, expected[batch.example_index, batch.position], tolerance)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_constants_on_encoder_decoders(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2, lengths=[9, 6], answers=3)
    if name == "bart":
        with pytest.raises(CircuitsError, match="not defined for post-norm models"):
            constants("mean", model, pairs)
        return
    executor = CircuitRunner(model, pairs.batch([0, 1]), constants("mean", model, pairs))
    close(executor.logits(Circuit.full(model.layout)), executor.clean)
    alone = [
        CircuitRunner(model, pairs.batch([i]), constants("mean", model, pairs)) for i in (0, 1)
    ]
    circuit = random_circuit(model.layout, 0.5, 0)
    together = executor.logits(circuit)
    for row, one in enumerate(alone):
        close(together[executor.batch.example_index == row], one.logits(circuit))


@pytest.mark.usefixtures("untyped")
def test_unknown_ablations_are_refused(hooked, random_pairs):
    with pytest.raises(CircuitsError, match="unknown ablation 'noise'; known: corrupted, mean"):
        constants("noise", hooked("gpt2"), random_pairs(n=1))
    with pytest.raises(CircuitsError, match="needs the pairs"):
        constants("mean", hooked("gpt2"), None)
