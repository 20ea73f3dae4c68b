"""Activation patching against TransformerLens's own slow loop, site by site."""

from functools import cache

import pandas as pd
import pytest
import torch
from conftest import CONFIGS
from transformer_lens import patching as slow

from circuits.errors import CircuitsError
from circuits.intervention.patching import SITES, patch
from circuits.intervention.patching import sites as sites_module
from circuits.intervention.patching.base import BaseRun, Start
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.models.hooks import Hooks
from tasks.pairs import PairSet

VECTORS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "neuron")
HEADS = ("z", "q", "k", "v", "pattern")
METRIC = "logit-difference"


@pytest.fixture(scope="module")
def precise(model_folder):
    """name -> HookedModel in float64, so that 1e-6 is not a matter of rounding."""
    return cache(
        lambda name: HookedModel.from_pretrained(
            model_folder(name), device="cpu", dtype=torch.float64
        )
    )


def whole(pairs):
    return pairs.batch(list(range(len(pairs))))


def transformer_lens(model, pairs, site, setter, direction="denoise", **index):
    """(example, *axes) by `transformer_lens.patching`: one forward pass of the bridge a site."""
    batch, judge = whole(pairs), METRICS[METRIC]
    base, donor = batch.corrupted, batch.clean
    if direction == "noise":
        base, donor = donor, base
    found = slow.generic_activation_patch(
        model.bridge,
        base,
        model.bridge.run_with_cache(donor)[1],
        lambda logits: judge(logits[batch.example_index, batch.position], batch),
        setter,
        {"neuron": "post"}.get(site, site),
        reduce="none",
        **index,
    )
    return found.values.movedim(-1, 0).double()


def same(found, expected, model, pairs, tolerance=1e-6):
    """Equal to `tolerance` of the largest logit, with something to be seen in every example."""
    found, expected = found.double(), expected.double()
    assert found.shape == expected.shape
    assert float(expected.flatten(1).std(dim=1).min()) > 1e-3
    largest = float(model.logits(whole(pairs).clean, whole(pairs)).abs().max())
    assert float((found - expected).abs().max()) <= tolerance * largest


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("site", VECTORS)
def test_vectors_equal_transformer_lens(site, name, direction, precise, random_pairs):
    model, pairs = precise(name), random_pairs(n=2, length=8)
    found = patch(model, pairs, site, direction=direction, by=("layer", "position"))
    # The bridge's resid_mid on GPT-2 is what the MLP reads, which leaves the stream past it as it
    # was. The stream itself, set at a position, gives there what the layer's end would.
    loop = "resid_post" if (site, name) == ("resid_mid", "gpt2") else site
    expected = transformer_lens(
        *(model, pairs, loop, slow.layer_pos_patch_setter, direction),
        index_axis_names=("layer", "pos"),
    )
    same(found.values[METRIC], expected, model, pairs)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("site", HEADS)
def test_heads_equal_transformer_lens(site, name, direction, precise, random_pairs):
    model, pairs = precise(name), random_pairs(n=2, length=8)
    setter = {"pattern": slow.layer_head_pattern_patch_setter}
    found = patch(model, pairs, site, direction=direction)
    expected = transformer_lens(
        *(model, pairs, site, setter.get(site, slow.layer_head_vector_patch_setter), direction),
        index_axis_names=("layer", "head"),
    )
    assert expected.shape[2] == (2 if name == "llama" and site in "kv" else 4)
    same(found.values[METRIC], expected, model, pairs)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("site", HEADS)
def test_heads_by_position_equal_transformer_lens(site, name, precise, random_pairs):
    model, pairs = precise(name), random_pairs(n=2, length=8)
    found = patch(model, pairs, site, by=("layer", "unit", "position"))
    if site == "pattern":
        setter, names = slow.layer_head_pos_pattern_patch_setter, ("layer", "head", "dest_pos")
    else:
        setter, names = slow.layer_pos_head_vector_patch_setter, ("layer", "pos", "head")
    expected = transformer_lens(model, pairs, site, setter, index_axis_names=names)
    expected = expected if site == "pattern" else expected.transpose(2, 3)
    same(found.values[METRIC], expected, model, pairs)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_single_neurons_equal_transformer_lens(name, precise, random_pairs):
    model, pairs, units = precise(name), random_pairs(n=2, length=8), [0, 3, 17, 40]

    def setter(activation, index, donor):
        activation[:, :, index[1]] = donor[:, :, index[1]]
        return activation

    found = patch(model, pairs, "neuron", layers=[0, 2], units=units)
    rows = pd.DataFrame([(layer, unit) for layer in (0, 2) for unit in units])
    expected = transformer_lens(model, pairs, "neuron", setter, index_df=rows)
    same(found.values[METRIC], expected.view(2, 2, 4), model, pairs)
    assert [axis.labels for axis in found.axes] == [
        ("layer 0", "layer 2"),
        ("n0", "n3", "n17", "n40"),
    ]


def features_of(tap, unit, width):
    """Features of a unit (None: of all units), by the layout that q, k and v have in a module."""
    part = tap.projection
    size = part.d_head if part else width // tap.units
    offset, stride = (part.offset, part.stride) if part else (0, size)
    for place in range(tap.units) if unit is None else [unit]:
        start = offset + place * stride
        yield slice(start, start + size)


def loop(model, pairs, site, entries, direction="denoise"):
    """(example, entry) by a plain forward pass an entry; the model's own modules, no stacking.

    entries: each a set of (layer, unit or None, position or None) that are patched together.
    """
    batch = whole(pairs)
    base, donor = batch.corrupted, batch.clean
    if direction == "noise":
        base, donor = donor, base
    taps = [SITES[site].tap(layer) for layer in model.view.layers]
    given, hooks = {}, Hooks()
    for layer, tap in enumerate(taps):
        tap.hook(hooks, lambda x, layer=layer: given.__setitem__(layer, x.clone()))
    model.logits(donor, batch, hooks)
    columns = []
    for entry in entries:
        hooks = Hooks()
        for layer, tap in enumerate(taps):

            def edit(x, layer=layer, tap=tap, entry=entry):
                new = x.clone()
                flat = new.view(len(batch), -1, x.shape[-1])  # OPT's MLP sees rows of all examples
                theirs = given[layer].view(flat.shape)
                for _, unit, position in (one for one in entry if one[0] == layer):
                    for feature in features_of(tap, unit, x.shape[-1]):
                        where = slice(None) if position is None else position
                        flat[:, where, feature] = theirs[:, where, feature]
                return new

            tap.hook(hooks, edit)
        columns.append(METRICS[METRIC](model.logits(base, batch, hooks), batch))
    return torch.stack(columns, dim=1).double()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_equals_a_plain_loop(name, hooked, random_pairs):
    """Also where attention has a window of 6: the runs that go on start after it."""
    model, pairs = hooked(name), random_pairs(n=2, length=15)
    places = [(layer, place) for layer in range(3) for place in range(15)]
    for site in ("resid_pre", "attn_out", "neuron"):
        found = patch(model, pairs, site, by=("layer", "position"))
        expected = loop(model, pairs, site, [[(layer, None, place)] for layer, place in places])
        same(found.values[METRIC].flatten(1), expected, model, pairs, 1e-5)
    heads = SITES["k"].tap(model.view.layers[0]).units
    found = patch(model, pairs, "k", by=("layer", "unit", "position"), positions=[6, 12])
    units = [(layer, unit) for layer in range(3) for unit in range(heads)]
    entries = [[(layer, unit, place)] for layer, unit in units for place in (6, 12)]
    same(found.values[METRIC].flatten(1), loop(model, pairs, "k", entries), model, pairs, 1e-5)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_axes_that_are_not_swept_are_patched_at_once(direction, hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=2, length=8)
    for site in ("resid_pre", "resid_post", "mlp_out"):
        found = patch(model, pairs, site, direction=direction, by=["position"])
        entries = [[(layer, None, place) for layer in range(3)] for place in range(8)]
        expected = loop(model, pairs, site, entries, direction)
        same(found.values[METRIC], expected, model, pairs, 1e-5)
        found = patch(model, pairs, site, direction=direction, by=["layer"], positions=[3, 7])
        entries = [[(layer, None, 3), (layer, None, 7)] for layer in range(3)]
        expected = loop(model, pairs, site, entries, direction)
        same(found.values[METRIC], expected, model, pairs, 1e-5)
    found = patch(model, pairs, "z", direction=direction, by=["layer"], units=[0, 2])
    entries = [[(layer, 0, None), (layer, 2, None)] for layer in range(3)]
    same(found.values[METRIC], loop(model, pairs, "z", entries, direction), model, pairs, 1e-5)


def test_the_middle_and_the_pattern_of_all_layers_at_once_equal_the_bridge(precise, random_pairs):
    """What depends on the layers before, patched themselves: the stream entering, the values."""
    model, pairs = precise("llama"), random_pairs(n=2, length=8)
    batch = whole(pairs)
    _, cache_ = model.bridge.run_with_cache(batch.clean)
    for site, name in (("resid_mid", "ln2.hook_in"), ("pattern", "attn.hook_pattern")):

        def hook(activation, hook, position):
            where = (slice(None), position) if site == "resid_mid" else (..., position, slice(None))  # noqa: B023
            activation[where] = cache_[hook.name][where]
            return activation

        expected = []
        for position in range(8):
            hooks = [
                (f"blocks.{layer}.{name}", lambda x, hook, p=position, f=hook: f(x, hook, p))
                for layer in range(3)
            ]
            logits = model.bridge.run_with_hooks(batch.corrupted, fwd_hooks=hooks)
            expected.append(
                METRICS[METRIC](logits[batch.example_index, batch.position].float(), batch)
            )
        found = patch(model, pairs, site, by=["position"])
        same(found.values[METRIC], torch.stack(expected, dim=1), model, pairs)


def test_stacking_and_going_on_change_nothing(hooked, random_pairs, monkeypatch):
    model, pairs = hooked("gpt2"), random_pairs(n=3, lengths=[9, 7, 8])
    runs = []
    go_on = BaseRun.go_on
    monkeypatch.setattr(BaseRun, "go_on", lambda *a: (runs.append((a[1], a[2])), go_on(*a))[1])

    def values(**options):
        runs.clear()
        return patch(model, pairs, "z", by=("layer", "unit", "position"), **options).values[METRIC]

    stacked = values(tokens=2048)
    assert max(copies for _, copies in runs) > 8
    assert any(start.layer and start.position for start, _ in runs)
    one_by_one = values(tokens=1)
    assert all(copies == 1 for _, copies in runs[1:])
    alone = values(batch_size=1)
    monkeypatch.setattr(BaseRun, "resumes", lambda _: False)
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
    go_on = BaseRun.go_on

    def wrong(self, start, copies, hooks):
        return go_on(self, start, copies, hooks) + (1.0 if start.layer else 0.0)

    monkeypatch.setattr(BaseRun, "go_on", wrong)
    found = patch(model, pairs).values[METRIC]
    assert "GPT2LMHeadModel cannot go on from a cache" in caplog.text
    assert torch.allclose(found, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("align", ["start", "end"])
@pytest.mark.parametrize("answers", [1, 3])
def test_padding_changes_nothing(align, answers, hooked, random_pairs):
    """Reads before the patch, too: an answer of three tokens is read at three positions."""
    model = hooked("llama")
    pairs = random_pairs(n=3, lengths=[12, 7, 9], answers=answers)
    found = patch(model, pairs, align=align).values[METRIC]
    length = 12 + answers - 1
    assert found.shape == (3, 3, length)
    narrow = patch(model, pairs, align=align, tokens=1).values[METRIC]  # one site a pass
    assert torch.allclose(found, narrow, atol=2e-5, rtol=0, equal_nan=True)
    for place in range(3):
        one = pairs[place : place + 1]
        alone = patch(model, one, align=align).values[METRIC][0]
        width = alone.shape[-1]
        mine, rest = found[place, :, :width], found[place, :, width:]
        if align == "end":
            rest, mine = found[place].split([length - width, width], dim=-1)
        assert rest.isnan().all() and float(alone.std()) > 1e-2
        assert torch.allclose(mine, alone, atol=2e-5, rtol=0)
        entries = [[(layer, None, at)] for layer in range(3) for at in range(width)]
        same(alone[None].flatten(1), loop(model, one, "resid_pre", entries), model, one, 1e-5)


def test_the_ends_of_the_model_are_the_other_run(hooked, random_pairs):
    """The whole stream before layer 0 makes the base run the donor run."""
    model, pairs = hooked("llama"), random_pairs(n=3)
    for direction in ("denoise", "noise"):
        found = patch(model, pairs, direction=direction, by=["layer"])
        donor = found.clean if direction == "denoise" else found.corrupted
        assert torch.allclose(found.values[METRIC][:, 0], donor[METRIC], atol=1e-5)
        last = patch(model, pairs, "resid_post", direction=direction)
        assert torch.allclose(last.values[METRIC][:, -1, -1], donor[METRIC], atol=1e-5)
    batch = whole(pairs)
    read = METRICS[METRIC](model.logits(batch.clean, batch), batch).double()
    assert torch.allclose(found.clean[METRIC], read) and found.n == 3


def test_nothing_is_left_on_the_model(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=1)
    batch = whole(pairs)
    before = model.logits(batch.clean, batch)
    attention = model.hf.config._attn_implementation
    patch(model, pairs, "pattern")  # transformers leaves hooks of its own at the first pattern

    def hooks():
        return [(*one._forward_hooks, *one._forward_pre_hooks) for one in model.hf.modules()]

    own = hooks()
    patch(model, pairs, "pattern")
    base = BaseRun(model, batch, batch.clean)
    failing = Hooks()
    failing.before(model.view.layers[2].block, lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        base.go_on(Start(2, 4), 2, failing)
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
        patch(model, pairs, "pattern")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "resid_final"}, "unknown site 'resid_final'; known: resid_pre, resid_mid, .* z,"),
        ({"direction": "both"}, "unknown direction 'both'; known: denoise, noise"),
        ({"align": "middle"}, "unknown align 'middle'; known: start, end"),
        ({"by": ["unit"]}, "resid_pre cannot be swept by 'unit'; it can by layer, position"),
        ({"layers": [3]}, "no layer 3: layers go from 0 to 2 here"),
        ({"layers": []}, "no layer was chosen"),
        ({"positions": [9]}, "no position 9: positions go from 0 to 8 here"),
        ({"positions": [0], "align": "end"}, "no position 0: positions go from -9 to -1 here"),
        ({"site": "k", "units": [2]}, "no KV head 2: KV heads go from 0 to 1 here"),
        ({"site": "z", "units": [4]}, "no head 4: heads go from 0 to 3 here"),
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
        patch(model, random_pairs(n=1), "resid_mid")


def test_an_encoder_decoder_is_refused(hooked, random_pairs):
    with pytest.raises(CircuitsError, match="is for decoder-only models"):
        patch(hooked("t5"), random_pairs(n=1))


def test_out_of_memory_halves_the_batch(hooked, random_pairs, monkeypatch):
    model, pairs = hooked("gpt2"), random_pairs(n=3)
    expected = patch(model, pairs).values[METRIC]
    go_on = BaseRun.go_on

    def crowded(self, start, copies, hooks):
        if len(self.batch) > 1 and start.layer == 2:
            raise torch.OutOfMemoryError("full")
        return go_on(self, start, copies, hooks)

    monkeypatch.setattr(BaseRun, "go_on", crowded)
    assert torch.allclose(patch(model, pairs).values[METRIC], expected, atol=2e-5)


def test_short_names_and_labels(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=1)
    found = patch(model, pairs, "resid", layers=[1])
    assert found.site == "resid_pre" and found.details["layers"] == [1]
    places = found.axes[1].labels
    word = model.tokenizer.decode
    clean, corrupted = pairs[0].clean, pairs[0].corrupted
    assert places[0] in (word([clean[0]]).strip(), repr(word([clean[0]])))
    assert ["/" in label for label in places] == [
        a != b or "/" in word([a]) for a, b in zip(clean, corrupted, strict=True)
    ]
    varied = patch(model, random_pairs(n=2), layers=[1])
    assert all(label.endswith("…") for label in varied.axes[1].labels)


def test_kl_is_of_the_clean_run_in_both_directions(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=2)
    for direction in ("denoise", "noise"):
        found = patch(model, pairs, by=["layer"], direction=direction, metrics="kl-divergence")
        name = "kl-divergence"
        assert torch.equal(found.clean[name], torch.zeros(2).double())
        assert float(found.corrupted[name].max()) < -0.1
        ends = found.clean[name] if direction == "denoise" else found.corrupted[name]
        assert torch.allclose(found.values[name][:, 0], ends, atol=1e-5)


def test_one_example_out_of_a_set_is_itself(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=5)
    found = patch(model, pairs, "mlp_out", batch_size=2).values[METRIC]
    alone = patch(model, PairSet((pairs[3],), metric=METRIC), "mlp_out").values[METRIC]
    assert torch.allclose(found[3], alone[0], atol=2e-5) and float(alone.std()) > 1e-3
