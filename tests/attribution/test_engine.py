"""The engine against an oracle that splits every path."""

import pytest
import torch
from conftest import CONFIGS, ENCODER_DECODERS, make_model, randomised
from oracles.encoder_decoder import EncoderDecoderPaths
from oracles.split_hooks import SplitHooks
from oracles.split_paths import SplitPaths
from scipy.stats import spearmanr

import circuits
from circuits.attribution.quadrature import rule
from circuits.errors import CircuitsError
from circuits.metrics import METRICS, metric_for
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.runtime.notices import say

TOLERANCE = 1e-5  # of the largest score


def oracle_scores(model, pairs, nodes, weights, metric="logit-difference"):
    """The oracle one example at a time, so that nothing is padded."""
    view = model.view
    oracle = SplitPaths(model.hf, view.layout.n_heads, view.layout.n_kv_heads, view.d_head)
    scores = []
    for place in range(len(pairs)):
        batch = pairs.batch([place])
        reference = model.hf(input_ids=batch.clean).logits[0, batch.position]

        def value(logits, batch=batch, reference=reference):
            return METRICS[metric](logits[0, batch.position], batch, reference).sum()

        scores.append(oracle.scores(batch.clean, batch.corrupted, value, nodes, weights))
    return torch.stack(scores)


def close(found, expected, tolerance=TOLERANCE):
    largest = float(expected.abs().max())
    assert largest > 1e-4, "the reference is all but zero; the comparison says nothing"
    assert float((found - expected).abs().max()) <= tolerance * largest


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_split_paths_on_every_architecture(name, hooked, random_pairs):
    model, pairs = hooked(name), random_pairs(n=2)
    points = rule("midpoint", 3)
    found = circuits.attribute(model, pairs, "eap-ig", steps=3, per_example=True)
    close(found.per_example, oracle_scores(model, pairs, points.nodes, points.weights))
    assert not found.matrix[~found.mask].any()
    # `input` into last-layer queries is truly zero here: the last token is the same in both.
    assert (found.matrix[found.mask] != 0).float().mean() > 0.95


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama-mha"])
def test_equals_the_published_algorithm_on_the_bridge(name, model_folder, random_pairs):
    model, pairs = HookedModel.from_pretrained(model_folder(name), device="cpu"), random_pairs(n=2)
    points, batch = rule("left", 4), pairs.batch([0, 1])

    def metric(logits):
        return METRICS["logit-difference"](logits[batch.example_index, batch.position], batch).sum()

    oracle = SplitHooks(model.bridge)
    expected = oracle.scores(batch.clean, batch.corrupted, metric, points.nodes, points.weights)
    found = circuits.attribute(model, pairs, "eap-ig", steps=4, quadrature="left")
    close(found.matrix, expected / len(pairs))


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_equals_split_paths_on_encoder_decoders(name, hooked, random_pairs):
    equals_split_paths(hooked(name), random_pairs(n=2, answers=3))


@pytest.mark.parametrize(
    "other", [{"encoder_layers": 4}, {"decoder_layers": 3}, {"encoder_ffn_dim": 64}]
)
@pytest.mark.exhaustive_but("other0")
def test_equals_split_paths_where_the_halves_are_unlike(other, random_pairs):
    """As in distilbart, of twelve layers and of six."""
    config = ENCODER_DECODERS["bart"]()
    config = type(config)(**{**config.to_dict(), **other})
    model = HookedModel(randomised(config), None, "distilbart")
    layers = (model.layout.n_encoder_layers, model.layout.n_layers)
    assert layers == (other.get("encoder_layers", 2), other.get("decoder_layers", 2))
    equals_split_paths(model, random_pairs(n=2, answers=3))


def equals_split_paths(model, pairs):
    oracle = EncoderDecoderPaths(model.hf, model.layout.n_heads, model.view.d_head)
    assert model.layout.shape == (oracle.n_sources, oracle.n_readers)
    points, expected = rule("midpoint", 3), []
    for place in range(len(pairs)):
        batch = pairs.batch([place])
        prompt, answer = len(pairs[place].clean), pairs[place].teacher_forced
        decoder = torch.tensor([[model.hf.config.decoder_start_token_id, *answer]])

        def value(logits, batch=batch):
            return METRICS["logit-difference"](logits[0], batch).sum()

        ends = batch.clean[:, :prompt], batch.corrupted[:, :prompt]
        expected.append(oracle.scores(*ends, decoder, value, points.nodes, points.weights))
    found = circuits.attribute(model, pairs, "eap-ig", steps=3, per_example=True)
    close(found.per_example, torch.stack(expected))
    assert not found.matrix[~found.mask].any()
    cross = model.layout.attentions[-1]
    assert cross.cross and found.matrix[:, cross.columns[1]].abs().max() > 1e-4


@pytest.mark.parametrize("metric", [name for name, m in METRICS.items() if m.differentiable])
def test_every_metric(metric, hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=2, answers=3)
    points = rule("left", 2)
    found = circuits.attribute(model, pairs, metric=metric, steps=2, quadrature="left")
    expected = oracle_scores(model, pairs, points.nodes, points.weights, metric).mean(dim=0)
    close(found.matrix, expected)


def test_eap_is_the_gradient_at_the_clean_run(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=2)
    found = circuits.attribute(model, pairs, "eap")
    close(found.matrix, oracle_scores(model, pairs, [1.0], [1.0]).mean(dim=0))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.exhaustive_but("llama")
def test_batch_padding_and_chunks_change_nothing(name, hooked, random_pairs, monkeypatch):
    model = hooked(name)
    pairs = random_pairs(n=4, answers=2, lengths=[9, 14, 6, 9])
    alone = circuits.attribute(model, pairs, options=RunOptions(1), per_example=True)
    together = circuits.attribute(model, pairs, options=RunOptions(4), per_example=True)
    close(together.per_example, alone.per_example, 5e-6)
    monkeypatch.setattr("circuits.attribution.contraction.READERS_AT_ONCE", 0)
    monkeypatch.setattr("circuits.attribution.meetings.chunk_bytes", lambda *_: 0)
    monkeypatch.setattr("circuits.attribution.passes._TOKENS_AT_ONCE", 0)
    chunked = circuits.attribute(model, pairs, options=RunOptions(4), per_example=True)
    close(chunked.per_example, alone.per_example, 5e-6)


@pytest.mark.parametrize("quadrature", ["midpoint", "calibrated"])
@pytest.mark.parametrize("name", ["gpt2", "bart", "t5"])
@pytest.mark.exhaustive_but("gpt2-midpoint", "bart-calibrated")
def test_how_many_passes_meet_the_sources_at_once_changes_nothing(
    name, quadrature, hooked, random_pairs, monkeypatch
):
    model, pairs = hooked(name), random_pairs(n=3, answers=2, lengths=[9, 14, 6])
    found, errors = [], []
    for most in (5, 1, 2):  # two leave one over
        monkeypatch.setattr("circuits.attribution.meetings.held_passes", lambda *_, most=most: most)
        one = circuits.attribute(
            model, pairs, steps=5, quadrature=quadrature, options=RunOptions(3), per_example=True
        )
        found.append(one.per_example)
        errors.append(one.provenance.error.estimate)
    assert found[0].abs().max() > 1e-3
    for one in found[1:]:
        close(one, found[0], 1e-6)
    assert errors[1:] == pytest.approx([errors[0]] * 2, rel=1e-3)


@pytest.mark.parametrize(
    "name", ["gpt2", "llama", "qwen3", "gpt-neox", "gptj", "opt", "bloom", "t5", "bart"]
)
@pytest.mark.exhaustive_but("llama", "t5", "bart")
def test_a_batch_is_its_examples_but_for_the_models_own_rounding(name, random_pairs):
    """In float32 the model's passes are rounded otherwise in other batches, by up to 2e-6; with
    passes in float64 what is left is the engine's own."""
    model = HookedModel(make_model(name).double(), None, name)
    pairs = random_pairs(n=4, answers=2, lengths=[9, 14, 6, 9])
    alone = circuits.attribute(model, pairs, options=RunOptions(1), per_example=True)
    together = circuits.attribute(model, pairs, options=RunOptions(4), per_example=True)
    close(together.per_example, alone.per_example, 1e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama", "olmo2", "t5", "bart"])
@pytest.mark.exhaustive_but("llama", "bart")
def test_a_bfloat16_model_ranks_edges_alike(name, random_pairs):
    pairs = random_pairs(n=4, answers=2, lengths=[9, 14, 6, 9])
    exact, rounded = (
        circuits.attribute(HookedModel(make_model(name).to(dtype), None, name), pairs)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert rounded.matrix.dtype == torch.float32
    assert spearmanr(exact.matrix[exact.mask], rounded.matrix[exact.mask]).statistic > 0.98


@pytest.mark.exhaustive
def test_summed_edge_scores_complete_the_path_integral(hooked, random_pairs):
    """Sources into logits alone do not add up, but the input's direct and indirect effects do:
    the integral of the gradient at the embedding is the metric's difference."""
    model, pairs = hooked("llama"), random_pairs(n=1)
    batch = next(pairs.batches(1))
    scores = circuits.attribute(model, pairs, steps=200)
    metric = metric_for(pairs)
    difference = scores.provenance.metric_clean - scores.provenance.metric_corrupted
    # Edges out of `input` are all the ways in which the embedding enters the model.
    assert float(scores.matrix[0].sum()) == pytest.approx(difference, rel=1e-3)
    assert abs(difference) > 1e-2 and metric.name == scores.provenance.metric and len(batch) == 1


def test_same_bytes_twice(hooked, random_pairs, tmp_path):
    model, pairs = hooked("llama"), random_pairs(n=3)
    first = circuits.attribute(model, pairs, per_example=True).save(tmp_path / "a")
    second = circuits.attribute(model, pairs, per_example=True).save(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_nan_names_the_example(hooked, random_pairs, monkeypatch):
    model, pairs = hooked("gpt2"), random_pairs(n=3)
    original = type(model).logits

    def poisoned(self, tokens, batch, *rest, **options):
        logits = original(self, tokens, batch, *rest, **options)
        bad = (batch.index[batch.example_index] == 1)[:, None]
        return logits.masked_fill(bad, torch.nan)

    monkeypatch.setattr(type(model), "logits", poisoned)
    with pytest.raises(CircuitsError, match=r"random pair 1: logit-difference is nan"):
        circuits.attribute(model, pairs)


def test_out_of_memory_halves_the_batch(hooked, random_pairs, monkeypatch, caplog):
    model, pairs = hooked("gpt2"), random_pairs(n=5)
    whole = circuits.attribute(model, pairs, options=RunOptions(5), per_example=True)
    original = type(model).logits

    def small(self, tokens, batch, *rest, **options):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no room")
        return original(self, tokens, batch, *rest, **options)

    monkeypatch.setattr(type(model), "logits", small)
    halved = circuits.attribute(model, pairs, options=RunOptions(5), per_example=True)
    close(halved.per_example, whole.per_example, 5e-6)
    assert "half as many" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "acdc"}, "unknown method 'acdc'; known: eap"),
        ({"steps": 0}, "steps=0"),
        ({"quadrature": "simpson"}, "unknown quadrature 'simpson'"),
        ({"method": "eap", "steps": 5}, "eap does not take steps"),
        ({"metric": "bleu"}, "unknown metric 'bleu'; known: logit-difference"),
        ({"metric": "accuracy"}, "has no gradient"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_refusals(settings, message, hooked, random_pairs):
    with pytest.raises(CircuitsError, match=message):
        circuits.attribute(hooked("gpt2"), random_pairs(n=1), **settings)


@pytest.mark.usefixtures("untyped")
def test_no_batch_is_empty():
    with pytest.raises(CircuitsError, match="batch_size 0: it must be at least 1"):
        RunOptions(batch_size=0)


def test_prompts_beyond_the_context_name_the_row(hooked, random_pairs):
    with pytest.raises(CircuitsError, match=r"random pair 1: 70 tokens .* context window holds 64"):
        circuits.attribute(hooked("gpt2"), random_pairs(n=2, lengths=[9, 70]))


def test_scores_of_single_examples_are_kept_up_to_a_size(hooked, random_pairs, monkeypatch, caplog):
    model, pairs = hooked("gpt2"), random_pairs(n=3)
    size = 4 * 3 * torch.Size(model.layout.shape).numel()
    monkeypatch.setattr("circuits.attribution.dataset_scores.KEPT_BYTES", size)
    say.cache_clear()
    kept = circuits.attribute(model, pairs, "eap")
    assert kept.per_example.shape == (3, *model.layout.shape) and not caplog.text
    torch.testing.assert_close(kept.per_example.mean(dim=0), kept.matrix)
    assert circuits.attribute(model, pairs, "eap", per_example=False).per_example is None
    monkeypatch.setattr("circuits.attribution.dataset_scores.KEPT_BYTES", size - 1)
    left_out = [circuits.attribute(model, pairs, "eap") for _ in range(2)]
    assert all(one.per_example is None for one in left_out)
    (message,) = caplog.messages
    assert "are left out" in message and "--per-example" in message
    assert circuits.attribute(model, pairs, "eap", per_example=True).per_example is not None
