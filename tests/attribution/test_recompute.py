"""Layers run again in the backward pass: the same scores, from less that is kept."""

import pytest
import torch
from conftest import CONFIGS, ENCODER_DECODERS

import circuits
from circuits.attribution import attribute_nodes, method
from circuits.errors import CircuitsError
from circuits.metrics import METRICS
from circuits.models.hooks import Hooks
from circuits.options.run import RunOptions
from circuits.runtime.resume import PartialResults

WAYS = {
    "edges": {"steps": 3},
    "calibrated": {"steps": "auto"},
    "activations": {"method": "eap-ig-activations", "steps": 1},
    "node": {"steps": 2, "level": "node"},
    "neuron": {"steps": 2, "level": "neuron"},
}


def scored(model, pairs, way, *, recompute):
    """Padded, behind what prompts share where the model can, the last layer where it is read."""
    settings = dict(WAYS[way])
    score = attribute_nodes if "level" in settings else circuits.attribute
    options = RunOptions(3, recompute=recompute)
    return score(model, pairs, **settings, per_example=True, options=options).per_example


ARCHITECTURES = (*CONFIGS, *ENCODER_DECODERS)
OTHERS = [way for way in WAYS if way != "edges"]
# The edges of every architecture, and in turn one of the other ways.
CASES = [
    *((name, "edges") for name in ARCHITECTURES),
    *((name, OTHERS[place % len(OTHERS)]) for place, name in enumerate(ARCHITECTURES)),
]


@pytest.mark.parametrize(("name", "way"), CASES)
@pytest.mark.exhaustive_but("gpt2-edges", "gemma2-edges", "t5-edges", "llama-*", "bart-*")
def test_the_same_scores(name, way, hooked, random_pairs):
    """To the byte, but where sums are taken in another order: an encoder's gradient is summed layer
    by layer, where one graph sums reader by reader; and where layers run again, sources meet what
    each pass left behind by itself, and else that of several passes at once.
    """
    model, pairs = hooked(name), random_pairs(n=3, answers=2, lengths=[17, 14, 17])
    expected, found = (scored(model, pairs, way, recompute=again) for again in (False, True))
    assert expected.abs().max() > 1e-3
    if name in ENCODER_DECODERS or way in ("edges", "calibrated"):
        near(found, expected)
    else:
        assert torch.equal(found, expected)


def near(found, expected):
    """Within 1e-6 of the largest score."""
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_where_prompts_share_nothing(name, hooked, random_pairs, monkeypatch):
    monkeypatch.setattr("circuits.models.hooked.shared_length", lambda *_: 0)
    model, pairs = hooked(name), random_pairs(n=3)
    expected, found = (scored(model, pairs, "edges", recompute=again) for again in (False, True))
    assert expected.abs().max() > 1e-3
    near(found, expected)


def test_all_layers_but_the_last_run_again_without_their_last_matrix(hooked, random_pairs):
    """Once forward and once backward; what is watched for its gradient, backward alone."""
    model, batch = hooked("gpt2"), next(random_pairs(n=2).batches(2))
    runs, watched, products = [], [], []
    hooks, entering = Hooks(), []
    hooks.before(model.view.streams[0].entry, lambda x: entering.append(x.requires_grad_()))
    for place, layer in enumerate(model.view.layers):
        hooks.before(layer.mlp.reader, lambda _, place=place: runs.append(place))
        hooks.after(layer.mlp.reader, lambda _, p=place: watched.append(p), in_graph=True)
        hooks.after(layer.mlp.output, lambda x, p=place: products.append((p, bool(x.any()))))
    with torch.enable_grad():
        logits = model.logits(batch.clean, batch, hooks, recompute=True)
        assert (runs, watched) == ([0, 1, 2], [2])
        torch.autograd.grad(logits.sum(), entering)
    assert (runs, watched) == ([0, 1, 2, 1, 0], [2, 1, 0])
    assert products == [(0, True), (1, True), (2, True), (1, False), (0, False)]
    assert not any("forward" in vars(module) for module in model.hf.modules())


def test_unfinished_work_goes_on_with_and_without(hooked, random_pairs, tmp_path, monkeypatch):
    """The scores are the same but for rounding, so that it is the same work."""
    model, pairs = hooked("llama"), random_pairs(n=4)
    expected = circuits.attribute(model, pairs, options=RunOptions(2), per_example=True)
    chosen = method("eap-ig")
    whole = type(chosen).scores

    def second_fails(self, model, batch, *rest, **options):
        if 0 not in batch.index:
            raise KeyboardInterrupt
        return whole(self, model, batch, *rest, **options)

    def score(recompute):
        with PartialResults(tmp_path / "partial") as resume:
            options = RunOptions(2, recompute=recompute)
            return circuits.attribute(
                model, pairs, chosen, options=options, per_example=True, resume=resume
            )

    with monkeypatch.context() as patch:
        patch.setattr(type(chosen), "scores", second_fails)
        with pytest.raises(KeyboardInterrupt):
            score(recompute=True)
    assert (tmp_path / "partial").exists()
    near(score(recompute=False).per_example, expected.per_example)


def test_what_has_no_backward_pass_recomputes_nothing(hooked, random_pairs):
    with pytest.raises(CircuitsError, match="information-flow keeps nothing for a backward pass"):
        circuits.attribute(
            hooked("gpt2"),
            random_pairs(n=1),
            "information-flow",
            options=RunOptions(recompute=True),
        )


def test_a_method_by_itself_recomputes_when_told(hooked, random_pairs):
    model, batch = hooked("gpt2"), next(random_pairs(n=1).batches(1))
    given = (model, batch, METRICS["logit-difference"])
    plain, again = (method("eap").scores(*given, recompute=told) for told in (False, True))
    assert plain.scores.abs().max() > 1e-3 and torch.equal(plain.scores, again.scores)
