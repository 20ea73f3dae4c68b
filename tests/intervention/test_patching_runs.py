"""How a sweep runs: every way of running it gives the same values; and what is refused."""

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.intervention.patching import PatchSpec, patch
from circuits.intervention.patching import sites as sites_module
from circuits.intervention.patching.base import ResumableRun, ResumePoint
from circuits.metrics import METRICS
from circuits.models.hooks import Hooks
from circuits.options.declared import options_from
from circuits.options.run import RunOptions
from tasks.pairs import PairSet

METRIC = "logit-difference"


def whole(pairs):
    return pairs.batch(list(range(len(pairs))))


def test_stacking_and_going_on_change_nothing(hooked, random_pairs, monkeypatch):
    model, pairs = hooked("gpt2"), random_pairs(n=3, lengths=[9, 7, 8])
    runs = []
    run_from = ResumableRun.run_from
    monkeypatch.setattr(
        ResumableRun, "run_from", lambda *a: (runs.append((a[1], a[2])), run_from(*a))[1]
    )

    def values(**options):
        runs.clear()
        return patch(
            model, pairs, PatchSpec("z", sweep=("layer", "head", "position")), **options
        ).values[METRIC]

    stacked = values(tokens=2048)
    assert max(copies for _, copies in runs) > 8
    assert any(start.layer and start.position for start, _ in runs)
    one_by_one = values(tokens=1)
    assert all(copies == 1 for _, copies in runs[1:])
    alone = values(options=RunOptions(batch_size=1))
    monkeypatch.setattr(ResumableRun, "check_resumable", lambda _: False)
    whole_runs = values()
    assert {(start.layer, start.position) for start, _ in runs} == {(0, 0)}
    for other in (one_by_one, alone, whole_runs):
        assert torch.equal(stacked.isnan(), other.isnan())
        assert torch.allclose(stacked, other, atol=2e-5, rtol=0, equal_nan=True)
    assert float(stacked[~stacked.isnan()].std()) > 1e-2


def test_a_model_that_cannot_go_on_is_run_whole_and_says_so(
    hooked, random_pairs, monkeypatch, caplog
):
    model, pairs = hooked("gpt2"), random_pairs(n=1)
    expected = patch(model, pairs).values[METRIC]
    run_from = ResumableRun.run_from

    def wrong(self, start, copies, hooks):
        return run_from(self, start, copies, hooks) + (1.0 if start.layer else 0.0)

    monkeypatch.setattr(ResumableRun, "run_from", wrong)
    found = patch(model, pairs).values[METRIC]
    assert "GPT2LMHeadModel cannot go on from a cache" in caplog.text
    assert torch.allclose(found, expected, atol=2e-5, rtol=0)


def test_the_ends_of_the_model_are_the_other_run(hooked, random_pairs):
    """The whole stream before layer 0 makes the base run the donor run."""
    model, pairs = hooked("llama"), random_pairs(n=3)
    for direction in ("denoise", "noise"):
        found = patch(model, pairs, PatchSpec(direction=direction, sweep=("layer",)))
        donor = found.clean if direction == "denoise" else found.corrupted
        assert torch.allclose(found.values[METRIC][:, 0], donor[METRIC], atol=1e-5)
        last = patch(model, pairs, PatchSpec("resid_post", direction=direction))
        assert torch.allclose(last.values[METRIC][:, -1, -1], donor[METRIC], atol=1e-5)
    batch = whole(pairs)
    read = METRICS[METRIC](model.logits(batch.clean, batch), batch).double()
    assert torch.allclose(found.clean[METRIC], read) and found.n == 3


def test_nothing_is_left_on_the_model(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=1)
    batch = whole(pairs)
    before = model.logits(batch.clean, batch)
    attention = model.hf.config._attn_implementation
    patch(
        model, pairs, PatchSpec("pattern")
    )  # transformers leaves hooks of its own at the first pattern

    def hooks():
        return [(*one._forward_hooks, *one._forward_pre_hooks) for one in model.hf.modules()]

    own = hooks()
    patch(model, pairs, PatchSpec("pattern"))
    base = ResumableRun(model, batch, batch.clean)
    failing = Hooks()
    failing.before(model.view.layers[2].block, lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        base.run_from(ResumePoint(2, 4), 2, failing)
    assert "forward" not in model.view.layers[0].block.__dict__
    assert hooks() == own
    assert model.hf.config._attn_implementation == attention == "sdpa"
    assert torch.equal(model.logits(batch.clean, batch), before)


def test_a_pattern_that_makes_nothing_is_refused(hooked, random_pairs, monkeypatch):
    """As where attention has more keys than positions (sinks): the weights are not the whole."""
    model, pairs = hooked("gpt2"), random_pairs(n=1)
    mixed = sites_module._mixed
    monkeypatch.setattr(sites_module, "_mixed", lambda pattern, v: mixed(0.9 * pattern, v))
    with pytest.raises(CircuitsError, match=r"pattern: the attention weights .* use z, q or k"):
        patch(model, pairs, PatchSpec("pattern"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"site": "resid_final"}, "unknown site 'resid_final'; known: resid, resid_pre, .* z,"),
        ({"direction": "both"}, "unknown direction 'both'; known: denoise, noise"),
        ({"align": "middle"}, "unknown align 'middle'; known: start, end"),
        ({"sweep": ("unit",)}, "unknown sweep 'unit'; known: layer, position, head, neuron"),
        ({"sweep": ("head",)}, "resid_pre cannot be swept by 'head'; it can by layer, position"),
        ({"site": "z", "sweep": ("neuron",)}, "z cannot be swept by 'neuron'; .* layer, head, pos"),
        ({"layers": (3,)}, "no layer 3: layers go from 0 to 2 here"),
        ({"layers": ()}, "no layer was chosen"),
        ({"positions": (9,)}, "no position 9: positions go from 0 to 8 here"),
        ({"positions": (0,), "align": "end"}, "no position 0: positions go from -9 to -1 here"),
        ({"site": "k", "heads": (2,)}, "no KV head 2: KV heads go from 0 to 1 here"),
        ({"site": "z", "heads": (4,)}, "no head 4: heads go from 0 to 3 here"),
        ({"site": "z", "neurons": (4,)}, "z has no neurons to choose from: it has heads"),
        ({"heads": (0,)}, "resid_pre has no heads to choose from: it has whole vectors"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(spec, message, hooked, random_pairs):
    with pytest.raises(CircuitsError, match=message):
        patch(hooked("llama"), random_pairs(n=1), options_from(PatchSpec, spec))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["luck"]}, "unknown metric 'luck'; known: logit-difference, .* rank"),
        ({"metrics": []}, "no metric was named"),
        ({"metrics": "rank:a book"}, r"'rank:a book': 'a book' is \d+ tokens \["),
        ({"metrics": "rank:#400"}, "token id 400 is outside the vocabulary of 400"),
    ],
)
def test_what_cannot_be_is_refused(options, message, hooked, random_pairs):
    with pytest.raises(CircuitsError, match=message):
        patch(hooked("llama"), random_pairs(n=1), **options)


def test_a_stream_that_is_not_there_is_refused(hooked, random_pairs, monkeypatch):
    model = hooked("gpt2")
    parallel = type(model.layout)(3, 4, 4, parallel=True)
    monkeypatch.setattr(type(model), "layout", parallel)
    with pytest.raises(CircuitsError, match="resid_mid: GPT2LMHeadModel computes attention and"):
        patch(model, random_pairs(n=1), PatchSpec("resid_mid"))


def test_an_encoder_decoder_is_refused(hooked, random_pairs):
    with pytest.raises(CircuitsError, match="is for decoder-only models"):
        patch(hooked("t5"), random_pairs(n=1))


def test_out_of_memory_halves_the_batch(hooked, random_pairs, monkeypatch):
    model, pairs = hooked("gpt2"), random_pairs(n=3)
    expected = patch(model, pairs).values[METRIC]
    run_from = ResumableRun.run_from

    def crowded(self, start, copies, hooks):
        if len(self.batch) > 1 and start.layer == 2:
            raise torch.OutOfMemoryError("full")
        return run_from(self, start, copies, hooks)

    monkeypatch.setattr(ResumableRun, "run_from", crowded)
    assert torch.allclose(patch(model, pairs).values[METRIC], expected, atol=2e-5)


def test_short_names_and_labels(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=1)
    found = patch(model, pairs, PatchSpec("resid", layers=(1,)))
    assert found.site == "resid_pre" and found.spec.layers == (1,)
    places = found.axes[1].labels
    word = model.tokenizer.decode
    clean, corrupted = pairs[0].clean, pairs[0].corrupted
    assert places[0] in (word([clean[0]]).strip(), repr(word([clean[0]])))
    assert ["/" in label for label in places] == [
        a != b or "/" in word([a]) for a, b in zip(clean, corrupted, strict=True)
    ]
    varied = patch(model, random_pairs(n=2), PatchSpec(layers=(1,)))
    assert all(label.endswith("…") for label in varied.axes[1].labels)


def test_kl_is_of_the_clean_run_in_both_directions(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=2)
    for direction in ("denoise", "noise"):
        found = patch(
            model, pairs, PatchSpec(sweep=("layer",), direction=direction), metrics="kl-divergence"
        )
        name = "kl-divergence"
        assert torch.equal(found.clean[name], torch.zeros(2).double())
        assert float(found.corrupted[name].max()) < -0.1
        ends = found.clean[name] if direction == "denoise" else found.corrupted[name]
        assert torch.allclose(found.values[name][:, 0], ends, atol=1e-5)


def test_one_example_out_of_a_set_is_itself(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=5)
    found = patch(model, pairs, PatchSpec("mlp_out"), options=RunOptions(batch_size=2)).values[
        METRIC
    ]
    alone = patch(model, PairSet((pairs[3],), metric=METRIC), PatchSpec("mlp_out")).values[METRIC]
    assert torch.allclose(found[3], alone[0], atol=2e-5) and float(alone.std()) > 1e-3
