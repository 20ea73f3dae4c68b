"""LongRoPE turns every position of a long text by other factors than of a short one."""

import pytest
import torch
import transformers
from conftest import CONFIGS, randomised

import circuits
from circuits.evaluation.measure import measure
from circuits.models import HookedModel
from circuits.models.inputs import shared_length
from circuits.options.run import RunOptions

THRESHOLD = 16


@pytest.fixture(scope="module")
def model():
    """A Phi-3 with its threshold far inside its context window."""
    config = CONFIGS["phi3"]()
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0, 4.0, 8.0, 16.0],
    }
    settings = {**config.to_dict(), "original_max_position_embeddings": THRESHOLD}
    config = transformers.Phi3Config(**{**settings, "rope_parameters": rope})
    return HookedModel(randomised(config), None, "phi3-long")


@pytest.fixture
def both_sides(random_pairs):
    return random_pairs(n=4, lengths=[10, 24, 16, 17])


def alone(model, tokens):
    """The plain model's last logits on one text."""
    with torch.no_grad():
        return model.hf(torch.tensor([tokens])).logits[0, -1]


def test_only_long_rope_has_a_threshold(model, hooked):
    assert model.longrope_window == THRESHOLD and model.n_ctx == 64
    assert all(hooked(name).longrope_window is None for name in ("phi3", "gemma3", "gpt2", "t5"))


def test_the_factors_matter(model):
    """The same text, read by itself and before another one's end."""
    text = list(range(1, 17))
    with torch.no_grad():
        longer = model.hf(torch.tensor([[*text, 5]])).logits[0, 15]
    assert float((longer - alone(model, text)).abs().max()) > 0.1


def test_a_long_text_is_not_split(model, random_pairs):
    for length, prefix in ((THRESHOLD, True), (THRESHOLD + 1, False)):
        batch = random_pairs(n=1, length=length).batch([0])
        assert shared_length(batch) > 0
        rest, found = model.share_prefix(batch)
        assert (found is not None) is prefix
        logits = model.logits(rest.clean, rest, prefix=found)[0]
        assert torch.allclose(logits, alone(model, batch.clean[0].tolist()), atol=1e-5)


def test_texts_of_both_sides_share_no_batch(model, both_sides):
    found = circuits.attribute(model, both_sides, "eap", options=RunOptions(4), per_example=True)
    one = circuits.attribute(model, both_sides, "eap", options=RunOptions(1), per_example=True)
    reach = 1e-5 * float(one.per_example.abs().max())
    assert reach > 0
    assert torch.allclose(found.per_example, one.per_example, rtol=0, atol=reach)

    pairs = list(both_sides)
    for key, side in (("metric_clean", "clean"), ("metric_corrupted", "corrupted")):
        logits = [alone(model, getattr(pair, side)) for pair in pairs]
        expected = [
            logit[pair.answer[0][0]] - logit[pair.wrong[0][0]]
            for logit, pair in zip(logits, pairs, strict=True)
        ]
        assert getattr(found.provenance, key) == pytest.approx(
            float(torch.stack(expected).mean()), rel=1e-4
        )


def test_circuits_are_run_on_each_side_by_itself(model, both_sides):
    chosen = [circuits.select(circuits.attribute(model, both_sides, "eap"), size=40)]
    together, one = (
        measure(model, both_sides, chosen, options=RunOptions(size)) for size in (4, 1)
    )
    assert float(one.circuits.abs().min()) > 0
    assert torch.allclose(together.circuits, one.circuits, rtol=1e-4)


def test_diffs_read_each_side_by_itself(model, both_sides):
    other = HookedModel(randomised(model.hf.config, seed=1), None, "other")
    together, one = (
        circuits.diff_models(other, model, both_sides, options=RunOptions(size), n_resamples=20)
        for size in (4, 1)
    )
    assert float(one.kl.value.min()) > 0
    assert torch.allclose(together.kl.value, one.kl.value, rtol=1e-3)
