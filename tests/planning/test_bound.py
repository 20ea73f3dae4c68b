"""What obviously fits: never said of what the plan would cut, and said without a trace."""

import pytest
import torch
from conftest import CONFIGS, make_model
from named_job import job_of

from circuits.attribution import cost_of
from circuits.planning import Shape, choose_batch_size, plan
from circuits.planning import microbatch as chooser
from circuits.planning.bound import obviously_fits


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "gptj", "bloom"])  # the least in hand
@pytest.mark.parametrize(
    "shape",
    [
        Shape(8, 24, padded=True),
        Shape(2, 60, answer_positions=12),
        Shape(4, 24, dtype=torch.bfloat16),
    ],
)
@pytest.mark.exhaustive_but("shape0-gpt2", "shape1-gemma2")
def test_what_obviously_fits_is_never_less_than_what_is_planned(name, shape):
    model = make_model(name)
    # Of runs side by side each is bounded as if it kept what a backward pass needs.
    for method, times in (("eap-ig", 8), ("exact", 32)):
        job = job_of(shape, method, n=shape.batch)
        made = plan(CONFIGS[name](), job)
        assert not obviously_fits(model, job, made.traced.weights, made.working - 1)
        assert obviously_fits(model, job, made.traced.weights, times * made.working)


def test_nothing_is_traced_where_it_obviously_fits(hooked, random_pairs, monkeypatch):
    monkeypatch.setattr(chooser, "_largest", None)
    pairs = random_pairs(n=100, length=24)
    assert choose_batch_size(hooked("llama"), pairs, cost_of("eap-ig"), 5) == 85
    monkeypatch.setattr(chooser, "total_memory", lambda _: 10**6)
    with pytest.raises(TypeError):
        choose_batch_size(hooked("llama"), random_pairs(n=100, length=24), cost_of("eap-ig"), 5)
