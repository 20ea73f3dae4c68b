import math

import pytest
import torch
import transformers
from model_diff import eager_reading

from circuits.errors import CircuitsError
from circuits.model_diff.documents import diff_documents
from circuits.model_diff.neurons import NeuronSums
from circuits.model_diff.trace import Neurons
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.statistics import student_quantile

LENGTHS = [9, 4, 12, 7, 5, 8]


@pytest.fixture(scope="module")
def pairs(random_pairs):
    return random_pairs(n=len(LENGTHS), lengths=LENGTHS)


@pytest.fixture(scope="module")
def moved(model_folder, tmp_path_factory):
    """name -> a copy with one neuron of layer 2 changed."""

    def move(name):
        model = transformers.AutoModelForCausalLM.from_pretrained(model_folder(name))
        with torch.no_grad():
            if name == "gpt2":
                mlp = model.transformer.h[2].mlp
                mlp.c_fc.weight[:, 7] = 0.0
                mlp.c_fc.bias[7] = 9.0
            else:
                model.model.layers[2].mlp.up_proj.weight[5] *= -1
        folder = tmp_path_factory.mktemp("moved") / name
        model.save_pretrained(folder)
        return HookedModel.from_pretrained(folder, device="cpu")

    return move


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_means_and_intervals_match_a_slow_reading(name, hooked, moved, pairs):
    model, base = moved(name), hooked(name)
    found = diff_documents(model, base, pairs, options=RunOptions(batch_size=4)).neurons
    documents, squares = [], []
    for pair in pairs:
        runs = [
            eager_reading.run(each.name, [*pair.clean, *pair.teacher_forced])
            for each in (model, base)
        ]
        documents.append([torch.stack([x.mean(dim=0) for x in run.neurons]) for run in runs])
        squares.append(torch.stack([x.square().mean(dim=0) for x in runs[1].neurons]))
    values = torch.stack([torch.stack(each) for each in documents], dim=1)  # side doc layer neuron
    change = values[0] - values[1]
    assert torch.allclose(found.model, values[0].mean(dim=0), rtol=1e-4, atol=1e-5)
    assert torch.allclose(found.base, values[1].mean(dim=0), rtol=1e-4, atol=1e-5)
    assert change.abs().max() > 0.1
    assert torch.allclose(found.change, change.mean(dim=0), atol=1e-5)
    error = change.std(dim=0) / math.sqrt(len(pairs))
    assert torch.allclose(found.error[2], error[2], rtol=1e-3, atol=1e-5)
    spread = (torch.stack(squares).mean(dim=0) - values[1].mean(dim=0).square()).sqrt()
    expected = change.mean(dim=0) / spread
    assert torch.allclose(found.effect[2], expected[2], rtol=1e-3, atol=1e-4)
    assert bool((found.change[:2] == 0).all()) and bool((found.q[:2] == 1).all())


def test_a_neuron_moved_by_hand_leads_and_is_seen_to_flip(hooked, moved, pairs):
    found = diff_documents(moved("gpt2"), hooked("gpt2"), pairs).neurons
    first, *rest = found.top()
    assert first.neuron == "m2.n7" and len(rest) == 49
    change = first.change
    assert change.low < change.value < change.high and first.changed
    reach = student_quantile(0.95, 5) * float(found.error[2, 7])
    assert change.high - change.value == pytest.approx(reach)
    assert bool(found.substantial[2, 7])
    assert float(found.base[2, 7]) < 0 < float(found.model[2, 7]) and bool(found.flipped[2, 7])
    assert first.flipped
    counts = found.summary()
    assert counts.by_layer.changed[:2] == (0, 0) and counts.top == (first, *rest)
    assert counts.n_changed == counts.n_rose + counts.n_fell >= 1


def test_neurons_enter_the_last_map_also_where_all_maps_are_equally_wide(pairs, tmp_path):
    config = transformers.LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    model = HookedModel.from_pretrained(tmp_path, device="cpu")
    found = diff_documents(model, model, pairs).neurons
    runs = [eager_reading.run(tmp_path, [*pair.clean, *pair.teacher_forced]) for pair in pairs]
    expected = torch.stack(
        [torch.stack([x.mean(dim=0) for x in run.neurons]) for run in runs]
    ).mean(dim=0)
    assert expected.abs().max() > 0
    assert torch.allclose(found.model, expected, rtol=1e-3, atol=float(expected.abs().max()) * 1e-5)


def sums_of(model, base, batches):
    """Made-up document means (doc, neuron) of one layer, spread 1 over tokens."""
    sums = NeuronSums(len(model))
    for index in torch.arange(len(model)).split(batches):
        sides = [[Neurons(side[index], side[index].square() + 1.0)] for side in (model, base)]
        sums.add(index, *sides)
    return sums


def test_thresholds_on_made_up_neurons():
    draw = torch.Generator().manual_seed(0)
    base = 1.0 + 0.05 * torch.randn(40, 1000, generator=draw)
    shift = torch.zeros(1000)
    shift[:100] = 0.3  # changed for sure, by less than half the spread
    shift[100:150] = 0.8  # substantial
    shift[150:170] = -2.0  # flips
    noise = 0.02 * torch.randn(40, 1000, generator=draw)
    found = sums_of(base + shift + noise, base, 7).statistics()
    assert int(found.changed[0, :170].sum()) == 170
    assert int(found.changed[0, 170:].sum()) <= 0.05 * 170 * 2  # the false discovery rate
    assert torch.equal(found.substantial[0].nonzero()[:, 0], torch.arange(100, 170))
    assert torch.equal(found.flipped[0].nonzero()[:, 0], torch.arange(150, 170))
    substantial, flipped = found.fractions()
    assert substantial.value == pytest.approx(0.07) and flipped.value == pytest.approx(0.02)
    assert substantial.low <= 0.07 <= substantial.high
    whole, pieces = (
        sums_of(base + shift, base, 40).statistics(),
        sums_of(base + shift, base, 3).statistics(),
    )
    assert torch.allclose(whole.q, pieces.q) and torch.allclose(whole.left_out, pieces.left_out)


def test_the_interval_of_the_fraction_covers_it():
    """Effects near the bar: with other documents another share would come out."""
    draw = torch.Generator().manual_seed(0)
    truth = 0.5 + 0.15 * torch.randn(2000, generator=draw).clamp(-2.5, 2.5)
    expected = float((truth / (1 + 0.04) ** 0.5 >= 0.5).float().mean())
    covered, trials = 0, 40
    for _ in range(trials):
        common = 0.2 * torch.randn(30, 1, generator=draw)  # moves all neurons of a document
        base = 0.2 * torch.randn(30, 2000, generator=draw)
        change = truth + common + 0.1 * torch.randn(30, 2000, generator=draw)
        fraction = sums_of(base + change, base, 30).statistics().fractions()[0]
        covered += fraction.low <= expected <= fraction.high
    assert covered >= 0.85 * trials


def test_one_document_is_refused():
    with pytest.raises(CircuitsError, match="two documents"):
        NeuronSums(1)


def test_nothing_is_kept_by_document():
    small, large = (
        sums_of(torch.rand(n, 50), torch.rand(n, 50), 10)._sums.numel() for n in (20, 2000)
    )
    assert small == large
