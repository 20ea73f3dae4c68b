import math
from dataclasses import replace

import pytest
import torch
import transformers
from conftest import CONFIGS
from model_diff import eager_reading

from circuits.errors import CircuitsError
from circuits.importance import ResampledChanges
from circuits.model_diff import ModelDiffs, diff_models
from circuits.model_diff.attention import (
    MASKED,
    Attention,
    Pattern,
    divergence,
    entropy,
    over_positions,
)
from circuits.model_diff.diff import CRITERIA, summarize
from circuits.model_diff.documents import DocumentDiffs, diff_documents
from circuits.model_diff.hidden import representation_trajectory
from circuits.models import HookedModel
from circuits.options.run import RunOptions
from circuits.report.narrative_diff import summary
from circuits.statistics.estimate import mean_estimates

LENGTHS = [9, 4, 12, 7, 12, 5, 8, 10, 6]


@pytest.fixture(scope="module")
def pairs(random_pairs):
    return random_pairs(n=len(LENGTHS), lengths=LENGTHS)


@pytest.fixture(scope="module")
def edited(model_folder, tmp_path_factory):
    """name -> a copy with head 2 of layer 1 edited by hand (its queries turned)."""
    made = {}

    def edit(name):
        if name in made:
            return made[name]
        model = transformers.AutoModelForCausalLM.from_pretrained(model_folder(name))
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            if name == "gpt2":
                weight = model.transformer.h[1].attn.c_attn.weight  # (d_model, 3 d_model)
                weight[:, 16:24] = 0.5 * torch.randn(32, 8, generator=draw)
            else:
                weight = model.model.layers[1].self_attn.q_proj.weight  # (d_model, d_model)
                weight[16:24] = 0.5 * torch.randn(8, 32, generator=draw)
        folder = tmp_path_factory.mktemp("edited") / name
        model.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(model_folder(name)).save_pretrained(folder)
        made[name] = HookedModel.from_pretrained(folder, device="cpu")
        return made[name]

    return edit


def tokens_of(pair):
    return [*pair.clean, *pair.teacher_forced]


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral"])
def test_every_document_matches_the_eager_model_without_padding(name, hooked, edited, pairs):
    model, base = edited(name), hooked(name)
    found = diff_documents(model, base, pairs, options=RunOptions(batch_size=4))
    for row in (0, 1, 2):
        runs = [eager_reading.run(each.name, tokens_of(pairs[row])) for each in (model, base)]
        for key, expected in eager_reading.compare(*runs).items():
            assert expected.abs().max() > 0
            value = getattr(found, key)[row]
            assert torch.allclose(value, expected, rtol=1e-4, atol=1e-5), (key, row)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_head_edited_by_hand_is_found_first(name, hooked, edited, pairs):
    found = diff_models(edited(name), hooked(name), pairs, n_resamples=50)
    head, kl = found.heads_by_kl[0]
    assert head == "a1.h2" and kl == found.kl[1, 2] and 0 < kl.low < kl.value < kl.high
    assert float(found.kl.value[0].max()) == 0.0
    importance = found.layer_importance("attention-kl")
    assert importance.values[0] == 0.0 and importance.ranking[0] == 1
    assert found.layer_importance("entropy").values[0] == 0.0
    changes = found.layer_importance("hidden-state").values
    assert changes[0] == 0.0 and changes[1] > 0 and changes[2] > 0
    assert "moved most at a1.h2" in summary(found)
    assert found.critical_layers.by("attention-kl").critical == (1,)


def test_a_diff_is_the_same_when_it_is_read_back(hooked, edited, pairs, tmp_path):
    model, base = edited("llama"), hooked("llama")
    diff = diff_models(model, base, pairs, n_resamples=50).renamed("step-7", "base")
    trajectory = representation_trajectory({"base": lambda: base, "step-7": lambda: model}, pairs)
    diffs = ModelDiffs(
        task="pairs",
        split="all",
        models={"base": "llama", "step-7": "edited"},
        comparisons=(diff,),
        trajectory=trajectory,
    )
    again = ModelDiffs.load(diffs.save(tmp_path / "model_diff.json"))
    assert again.to_json() == diffs.to_json()
    (read,) = again.comparisons
    assert (read.model, read.base, read.n_documents) == ("step-7", "base", len(LENGTHS))
    assert torch.equal(read.kl.high, diff.kl.high) and read.neurons.top == diff.neurons.top
    assert [one.name for one in read.head_types] == [one.name for one in diff.head_types]
    assert summary(read) == summary(diff)
    assert again.trajectory.steps == (0, 7) and again.trajectory.moved.value.shape == (2, 3)


def test_batches_and_chunks_of_queries_leave_no_trace(hooked, edited, pairs, monkeypatch):
    model, base = edited("llama"), hooked("llama")
    places = [[0, len(pair) // 2] for pair in pairs]
    settings = {"key_positions": {"middle": places}}
    many = diff_documents(model, base, pairs, options=RunOptions(5), **settings)
    monkeypatch.setattr("circuits.model_diff.paired_forward.PATTERN_BYTES_CPU", 400)
    one = diff_documents(model, base, pairs, options=RunOptions(1), **settings)
    for key in ("kl", "entropy", "entropy_base", "cosine", "activation", "update_change"):
        assert torch.allclose(getattr(one, key), getattr(many, key), rtol=1e-4, atol=1e-6), key
    assert one.head_masses.keys() == many.head_masses.keys() and "middle" in one.head_masses
    for name, masses in one.head_masses.items():
        other = many.head_masses[name]
        assert torch.allclose(masses.model, other.model, atol=1e-6), name
        assert torch.allclose(masses.base, other.base, atol=1e-6), name
        assert torch.equal(masses.chance, other.chance), name
    assert torch.allclose(one.neurons.change, many.neurons.change, atol=1e-6)
    assert torch.allclose(one.neurons.effect, many.neurons.effect, rtol=1e-3, atol=1e-5)


def test_an_eager_model_gives_the_same(hooked, edited, pairs, model_folder):
    eager = transformers.AutoModelForCausalLM.from_pretrained(
        model_folder("llama"), attn_implementation="eager"
    )
    base = HookedModel(eager, None, "eager")
    found = diff_documents(edited("llama"), base, pairs)
    expected = diff_documents(edited("llama"), hooked("llama"), pairs)
    assert float(expected.kl.max()) > 0.01
    for key in ("kl", "entropy_base", "cosine"):
        assert torch.allclose(getattr(found, key), getattr(expected, key), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.exhaustive_but("gpt2", "llama", "gemma2", "gpt-neox", "gptj", "opt", "bloom", "phi3")
def test_every_decoder_only_architecture_shows_its_attention(name, hooked, pairs):
    model = hooked(name)
    found = diff_documents(model, model, pairs)
    eager = transformers.AutoModelForCausalLM.from_pretrained(
        model.name, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        patterns = eager(torch.tensor([tokens_of(pairs[2])]), output_attentions=True).attentions
    p = torch.cat(patterns).double()  # layer head query key
    expected = -torch.xlogy(p, p).sum(dim=-1).mean(dim=-1)
    assert expected.abs().max() > 0.1
    assert torch.allclose(found.entropy[2], expected, atol=1e-5)
    first = (p[..., 1:, 0]).mean(dim=-1)
    assert torch.allclose(found.head_masses["first-token"].model[2].double(), first, atol=1e-5)
    assert found.neurons is not None and float(found.neurons.model.abs().max()) > 0


def test_encoder_decoder_models_are_refused(hooked, pairs):
    with pytest.raises(CircuitsError, match="decoder-only"):
        diff_models(hooked("t5"), hooked("t5"), pairs)
    with pytest.raises(CircuitsError, match="decoder-only"):
        representation_trajectory({"a": lambda: hooked("t5"), "b": lambda: hooked("t5")}, pairs)


def test_a_model_against_itself(hooked, pairs):
    found = diff_models(hooked("gpt2"), hooked("gpt2"), pairs, n_resamples=50)
    assert found.identical
    assert "no change" in summary(found)
    assert float(found.kl.value.abs().max()) == 0.0
    assert found.layer_importance("hidden-state").values == (0.0, 0.0, 0.0)
    assert found.sharpened_fraction.value == 0.0
    neurons = found.neurons
    assert (neurons.n_changed, neurons.n_substantial, neurons.n_flipped) == (0, 0, 0)
    assert all(one.gained == one.lost == () for one in found.head_types)
    assert all(math.isnan(pair.tau.value) for pair in found.critical_layers.agreement)
    assert all(changes.critical == () for changes in found.critical_layers.criteria)


def test_the_interval_of_a_cosine_stays_among_cosines(hooked, edited, pairs):
    found = diff_documents(hooked("gpt2"), edited("gpt2"), pairs[:2])
    found = replace(found, cosine=torch.tensor([[0.99], [0.2]]).expand_as(found.cosine))
    assert float(mean_estimates(found.cosine).high.max()) > 1
    assert float(summarize(found, ("a", "b")).cosine.high.max()) == 1


def test_the_fraction_of_heads_that_grew_sharper(hooked, edited, pairs):
    found = diff_models(edited("gpt2"), hooked("gpt2"), pairs, n_resamples=50)
    sharper = found.entropy_change.value < 0
    fraction = found.sharpened_fraction
    assert fraction.value == pytest.approx(float(sharper.sum()) / 12) and sharper.any()
    assert 0 <= fraction.low <= fraction.high <= 1


def test_criteria_of_layers_by_hand(hooked, pairs):
    draw = torch.Generator().manual_seed(0)
    kl = torch.rand(6, 4, 2, generator=draw)
    entropy, before = torch.rand(2, 6, 4, 2, generator=draw)
    layers = torch.rand(5, 6, 4, generator=draw)
    documents = DocumentDiffs(kl, entropy, before, *layers, head_masses={}, neurons=None)
    found = summarize(documents, ("a", "b"), n_resamples=50)
    for layer in range(4):
        expected = [
            sum(float(kl[d, layer, h]) for d in range(6) for h in range(2)) / 12,
            sum(
                abs(sum(float(entropy[d, layer, h] - before[d, layer, h]) for d in range(6)) / 6)
                for h in range(2)
            )
            / 2,
            sum(float(layers[4, d, layer]) for d in range(6)) / 6,
        ]
        got = [found.layer_importance(criterion).values[layer] for criterion in CRITERIA]
        assert got == pytest.approx(expected)
    with pytest.raises(CircuitsError, match="unknown criterion 'edges'"):
        found.layer_importance("edges")
    with pytest.raises(CircuitsError, match="no head type 'self' was measured"):
        found.head_type("self")
    drawn = torch.rand(5, 4, generator=draw)
    edges = ResampledChanges.of_means(drawn, n_resamples=50, seed=0)
    both = summarize(documents, ("a", "b"), edges=edges, n_resamples=50).critical_layers
    assert [changes.criterion for changes in both.criteria] == [*CRITERIA, "edges"]
    assert len(both.agreement) == 6 and both.by("edges").values.n == 5
    with pytest.raises(CircuitsError, match="4 layers for a model of 3"):
        diff_models(hooked("gpt2"), hooked("gpt2"), pairs, edges=edges)


def test_refusals(hooked, tmp_path, pairs, model_folder):
    config = transformers.GPT2Config.from_pretrained(hooked("gpt2").name, n_layer=2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    small = HookedModel.from_pretrained(tmp_path, device="cpu")
    with pytest.raises(CircuitsError, match=r"3 layers.*and 2 layers"):
        diff_models(hooked("gpt2"), small, pairs)
    with pytest.raises(CircuitsError, match="at least two"):
        diff_models(hooked("gpt2"), hooked("gpt2"), pairs[:1])
    with pytest.raises(CircuitsError, match="'middle': positions for 1 texts and 9 pairs"):
        diff_models(hooked("gpt2"), hooked("gpt2"), pairs, key_positions={"middle": [[1]]})


@pytest.mark.parametrize("name", ["mistral", "gemma2"])  # by SDPA, and by its patterns
def test_other_windows_are_refused_where_they_matter(name, hooked, pairs, model_folder):
    load = transformers.AutoModelForCausalLM.from_pretrained
    wide = HookedModel(load(model_folder(name), sliding_window=9), None, "wide")
    with pytest.raises(
        CircuitsError, match=r"layer 0: wide attends to .* attention windows differ"
    ):
        diff_models(wide, hooked(name), pairs)
    beyond = [HookedModel(load(model_folder(name), sliding_window=w), None, "x") for w in (60, 70)]
    assert diff_models(*beyond, pairs, n_resamples=50).identical


def test_masked_keys_add_nothing():
    p = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    q = torch.tensor([[0.25, 0.75, 0.0, 0.0]])
    log_p, log_q = (x.log().clamp_min(MASKED) for x in (p, q))
    assert float(entropy(p, log_p)) == pytest.approx(math.log(2))
    assert float(divergence(p, log_p, log_q)) == pytest.approx(
        0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    )
    assert float(divergence(p, log_p, log_p)) == 0.0
    one = torch.tensor([[1.0, 0.0]])
    assert float(entropy(one, one.log().clamp_min(MASKED))) == 0.0


def test_what_softmax_lets_underflow_keeps_its_divergence():
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 1, 2, 2)
    steep = torch.tensor([[-300.0, 200.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    flat = torch.zeros(1, 1, 2, 2)
    p, q = (Attention(query, key, 1.0, None, True) for key in (flat, steep))
    log_p, log_q = (one.log_probabilities(slice(1, 2)) for one in (p, q))
    assert float(log_q.exp()[..., 1]) == 0.0
    found = float(divergence(log_p.exp(), log_p, log_q))
    assert found == pytest.approx(100 - math.log(2), rel=1e-5)
    lost = Pattern(log_q.exp()).log_probabilities(slice(0, 1))
    assert math.isfinite(float(divergence(log_p.exp(), log_p, lost)))


def test_padding_never_counts():
    values = torch.tensor([[[1.0, 2.0, 99.0]], [[4.0, math.nan, math.inf]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert over_positions(values, mask).flatten().tolist() == [1.5, 4.0]


def test_attention_that_did_not_move_is_said_not_to_have(hooked, model_folder, pairs):
    """Only what the last layer's heads write was edited."""
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight.mul_(2)
    found = diff_models(HookedModel(model, None, "edited"), hooked("llama"), pairs, n_resamples=50)
    assert found.same_attention and not found.identical
    text = summary(found)
    assert "No attention pattern changed" in text and "moved most" not in text
    assert "Most changed layers: 2 by hidden-state." in text
