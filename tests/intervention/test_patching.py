"""Activation patching against TransformerLens's own slow loop, site by site."""

from functools import cache

import pandas as pd
import pytest
import torch
from conftest import CONFIGS
from transformer_lens import patching as slow

from circuits.intervention.patching import SITES, PatchSpec, patch
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.models.hooks import Hooks

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
@pytest.mark.exhaustive_but("*-llama-denoise", "*-gpt2-noise")
def test_vectors_equal_transformer_lens(site, name, direction, precise, random_pairs):
    model, pairs = precise(name), random_pairs(n=2, length=8)
    found = patch(model, pairs, PatchSpec(site, direction=direction, sweep=("layer", "position")))
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
@pytest.mark.exhaustive_but("*-llama-denoise", "*-gpt2-noise")
def test_heads_equal_transformer_lens(site, name, direction, precise, random_pairs):
    model, pairs = precise(name), random_pairs(n=2, length=8)
    setter = {"pattern": slow.layer_head_pattern_patch_setter}
    found = patch(model, pairs, PatchSpec(site, direction=direction))
    expected = transformer_lens(
        *(model, pairs, site, setter.get(site, slow.layer_head_vector_patch_setter), direction),
        index_axis_names=("layer", "head"),
    )
    assert expected.shape[2] == (2 if name == "llama" and site in "kv" else 4)
    same(found.values[METRIC], expected, model, pairs)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("site", HEADS)
@pytest.mark.exhaustive_but("q-llama", "v-llama", "pattern-*")
def test_heads_by_position_equal_transformer_lens(site, name, precise, random_pairs):
    model, pairs = precise(name), random_pairs(n=2, length=8)
    found = patch(model, pairs, PatchSpec(site, sweep=("layer", "head", "position")))
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

    found = patch(model, pairs, PatchSpec("neuron", layers=(0, 2), neurons=tuple(units)))
    rows = pd.DataFrame([(layer, unit) for layer in (0, 2) for unit in units])
    expected = transformer_lens(model, pairs, "neuron", setter, index_df=rows)
    same(found.values[METRIC], expected.view(2, 2, 4), model, pairs)
    assert [axis.labels for axis in found.axes] == [
        ("layer 0", "layer 2"),
        ("n0", "n3", "n17", "n40"),
    ]


def features_of(point, unit, width):
    """Features of a unit (None: of all units), by the layout that q, k and v have in a module."""
    part = point.projection
    size = part.d_head if part else width // point.units
    offset, stride = (part.offset, part.stride) if part else (0, size)
    for place in range(point.units) if unit is None else [unit]:
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
    points = [SITES[site].hook_point(layer) for layer in model.view.layers]
    given, hooks = {}, Hooks()
    for layer, point in enumerate(points):
        point.hook(hooks, lambda x, layer=layer: given.__setitem__(layer, x.clone()))
    model.logits(donor, batch, hooks)
    columns = []
    for entry in entries:
        hooks = Hooks()
        for layer, point in enumerate(points):

            def edit(x, layer=layer, point=point, entry=entry):
                new = x.clone()
                flat = new.view(len(batch), -1, x.shape[-1])  # OPT's MLP sees rows of all examples
                theirs = given[layer].view(flat.shape)
                for _, unit, position in (one for one in entry if one[0] == layer):
                    for feature in features_of(point, unit, x.shape[-1]):
                        where = slice(None) if position is None else position
                        flat[:, where, feature] = theirs[:, where, feature]
                return new

            point.hook(hooks, edit)
        columns.append(METRICS[METRIC](model.logits(base, batch, hooks), batch))
    return torch.stack(columns, dim=1).double()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.exhaustive_but("gpt2", "gemma2", "opt", "gptj")
def test_every_architecture_equals_a_plain_loop(name, hooked, random_pairs):
    """Also where attention has a window of 6: the runs that go on start after it."""
    model, pairs = hooked(name), random_pairs(n=2, length=15)
    places = [(layer, place) for layer in range(3) for place in range(15)]
    for site in ("resid_pre", "attn_out", "neuron"):
        found = patch(model, pairs, PatchSpec(site, sweep=("layer", "position")))
        expected = loop(model, pairs, site, [[(layer, None, place)] for layer, place in places])
        same(found.values[METRIC].flatten(1), expected, model, pairs, 1e-5)
    heads = SITES["k"].hook_point(model.view.layers[0]).units
    found = patch(
        model, pairs, PatchSpec("k", sweep=("layer", "head", "position"), positions=(6, 12))
    )
    units = [(layer, unit) for layer in range(3) for unit in range(heads)]
    entries = [[(layer, unit, place)] for layer, unit in units for place in (6, 12)]
    same(found.values[METRIC].flatten(1), loop(model, pairs, "k", entries), model, pairs, 1e-5)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_axes_that_are_not_swept_are_patched_at_once(direction, hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=2, length=8)
    for site in ("resid_pre", "resid_post", "mlp_out"):
        found = patch(model, pairs, PatchSpec(site, direction=direction, sweep=("position",)))
        entries = [[(layer, None, place) for layer in range(3)] for place in range(8)]
        expected = loop(model, pairs, site, entries, direction)
        same(found.values[METRIC], expected, model, pairs, 1e-5)
        found = patch(
            model, pairs, PatchSpec(site, direction=direction, sweep=("layer",), positions=(3, 7))
        )
        entries = [[(layer, None, 3), (layer, None, 7)] for layer in range(3)]
        expected = loop(model, pairs, site, entries, direction)
        same(found.values[METRIC], expected, model, pairs, 1e-5)
    found = patch(model, pairs, PatchSpec("z", direction=direction, sweep=("layer",), heads=(0, 2)))
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
        found = patch(model, pairs, PatchSpec(site, sweep=("position",)))
        same(found.values[METRIC], torch.stack(expected, dim=1), model, pairs)


@pytest.mark.parametrize("align", ["start", "end"])
@pytest.mark.parametrize("answers", [1, 3])
@pytest.mark.exhaustive_but("3-*")
def test_padding_changes_nothing(align, answers, hooked, random_pairs):
    """Reads before the patch, too: an answer of three tokens is read at three positions."""
    model = hooked("llama")
    pairs = random_pairs(n=3, lengths=[12, 7, 9], answers=answers)
    found = patch(model, pairs, PatchSpec(align=align)).values[METRIC]
    length = 12 + answers - 1
    assert found.shape == (3, 3, length)
    narrow = patch(model, pairs, PatchSpec(align=align), tokens=1).values[METRIC]  # one site a pass
    assert torch.allclose(found, narrow, atol=2e-5, rtol=0, equal_nan=True)
    for place in range(3):
        one = pairs[place : place + 1]
        alone = patch(model, one, PatchSpec(align=align)).values[METRIC][0]
        width = alone.shape[-1]
        mine, rest = found[place, :, :width], found[place, :, width:]
        if align == "end":
            rest, mine = found[place].split([length - width, width], dim=-1)
        assert rest.isnan().all() and float(alone.std()) > 1e-2
        assert torch.allclose(mine, alone, atol=2e-5, rtol=0)
        entries = [[(layer, None, at)] for layer in range(3) for at in range(width)]
        same(alone[None].flatten(1), loop(model, one, "resid_pre", entries), model, one, 1e-5)
