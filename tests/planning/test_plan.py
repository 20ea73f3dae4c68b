"""A plan against the memory that the engine itself allocates, and the verdicts that follow."""

import dataclasses

import pytest
import torch
from conftest import CONFIGS
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, T5Config

from circuits.attribution import method
from circuits.errors import CircuitsError
from circuits.graph import Circuit
from circuits.intervention import Executor
from circuits.metrics import METRICS
from circuits.models import HookedModel
from circuits.models.feed import shared_length
from circuits.planning import (
    Job,
    Rates,
    Shape,
    largest_batch,
    plan,
    planned_batch_size,
    suggestions,
)
from circuits.planning.counter import Counter

WIDE = {
    "gpt2": GPT2Config(n_embd=96, n_layer=4, n_head=6, vocab_size=400),
    "llama": LlamaConfig(
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=400,
    ),
}
GPT2 = CONFIGS["gpt2"]()


@pytest.fixture(scope="module", params=WIDE)
def wide(request):
    torch.manual_seed(0)
    config = WIDE[request.param]
    return config, HookedModel(AutoModelForCausalLM.from_config(config), None, request.param)


def allocated(model, work):
    """Most bytes of tensors beside the weights that are alive at a time while work is done."""
    with Counter([*model.parameters(), *model.buffers()]) as counter:
        work()
    assert counter.peak > 1e6
    return counter.peak


@pytest.mark.parametrize(("name", "steps"), [("eap-ig", 8), ("eap", None)])
@pytest.mark.parametrize("shape", [(2, 64), (1, 192)])
def test_within_a_quarter_of_what_the_engine_allocates(wide, random_pairs, name, steps, shape):
    config, model = wide
    batch = next(random_pairs(n=shape[0], length=shape[1]).batches(shape[0]))
    settings = {} if steps is None else {"steps": steps}
    real = allocated(
        model.hf, lambda: method(name, **settings).scores(model, batch, METRICS["logit-difference"])
    )
    made = plan(config, Job(Shape(*shape, shared=shared_length(batch)), name, steps))
    found = sum(made.phases[made.fullest].values())
    assert found == pytest.approx(real, rel=0.25)


def test_within_a_quarter_of_what_running_a_circuit_allocates(wide, random_pairs):
    config, model = wide
    batch = next(random_pairs(n=2, length=64).batches(2))
    mask = torch.rand(model.layout.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    circuit = Circuit(model.layout, mask & model.layout.mask)
    real = allocated(model.hf, lambda: Executor(model, batch).logits(circuit))
    made = plan(config, Job(Shape(2, 64, shared=shared_length(batch)), "evaluate"))
    assert sum(made.phases[made.fullest].values()) == pytest.approx(real, rel=0.25)


def test_within_a_quarter_of_what_training_allocates():
    config, shape = WIDE["llama"], Shape(4, 64, reads=64)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    tokens = torch.randint(400, (4, 64))

    def work():
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):  # the moments are there from the second step on
            optimizer.zero_grad()
            model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
            optimizer.step()

    real = allocated(model, work)
    made = plan(config, Job(shape, "finetune"))
    assert sum(made.phases["training"].values()) == pytest.approx(real, rel=0.25)


@pytest.mark.parametrize("name", ["eap-ig", "evaluate", "finetune"])
def test_the_largest_batch_fits_and_one_more_does_not(name):
    job = Job(Shape(1, 32), name, n=1000)
    available = 60_000_000
    batch = largest_batch(GPT2, job, available)
    assert 1 < batch < 1000
    assert plan(GPT2, job.of(batch)).working <= available * 1.001
    assert plan(GPT2, job.of(batch + 1)).working > available
    assert largest_batch(GPT2, job, 10_000) == 0
    assert largest_batch(GPT2, dataclasses.replace(job, n=3), available) == 3


def test_planned_batch_size_is_at_least_one():
    job = Job(Shape(1, 32), n=1000)
    assert planned_batch_size(GPT2, 32, 60_000_000, n=1000) == largest_batch(GPT2, job, 60_000_000)
    assert planned_batch_size(GPT2, 32, 10) == 1
    few, many = (planned_batch_size(GPT2, 32, 60_000_000, steps=steps) for steps in (40, 2))
    assert 1 < few < many


def test_suggestions_fit():
    job = Job(Shape(64, 64), n=64)
    made = plan(GPT2, job, overhead=1_000_000)
    available = made.total // 4
    found = suggestions(GPT2, made, available)
    assert found[0].startswith("--batch-size ") and found[1].startswith("--dtype bfloat16")
    assert plan(GPT2, job.of(int(found[0].split()[1])), overhead=1_000_000).total <= available
    one = plan(GPT2, job.of(1), overhead=1_000_000)
    tight = suggestions(GPT2, one, one.total - one.working // 4)
    assert not any(change.startswith("--batch-size") for change in tight)
    assert "prompts of at most 32 tokens, one at a time" in tight
    assert suggestions(GPT2, one, 10) == []


def test_seconds_add_up():
    made = plan(GPT2, Job(Shape(2, 32), "eap-ig", 5, n=7))
    step, forward = made.traced.step, made.traced.forward
    only_attention = Rates(float("inf"), 1e9, float("inf"))
    expected = 4 * (5 * step.attention + 2 * forward.attention) / 1e9
    assert made.seconds(only_attention) == pytest.approx(expected)
    only_moved = Rates(float("inf"), float("inf"), 1e9)
    expected = 4 * (5 * step.moved + 2 * forward.moved) / 1e9
    assert made.seconds(only_moved) == pytest.approx(expected)
    own = made.seconds(Rates(1e9, float("inf"), float("inf"))) / 4 * 1e9
    own -= 5 * step.matmul + 2 * forward.matmul
    edges = made.sizes.layout.n_edges
    assert own > 2 * 64 * edges * 32
    evaluate = plan(GPT2, Job(Shape(2, 32), "evaluate", n=2)).seconds(only_attention)
    assert evaluate == pytest.approx(52 * forward.attention / 1e9)
    trained = plan(GPT2, Job(Shape(2, 32), "finetune", n=4))
    assert trained.seconds(only_attention) == pytest.approx(2 * trained.traced.step.attention / 1e9)


@pytest.mark.parametrize(
    ("config", "job", "message"),
    [
        (GPT2, {"shape": Shape(1, 65)}, "65 tokens, but the model's context window holds 64"),
        (GPT2, {"shape": Shape(1, 8), "method": "luck"}, "no plan for 'luck'; known: eap-ig"),
        (GPT2, {"shape": Shape(0, 8)}, "every number must be at least 1"),
        (GPT2, {"shape": Shape(1, 8), "steps": 0}, "steps=0"),
        (GPT2, {"shape": Shape(1, 8, shared=8)}, "8 shared positions of 8, 1 of them read"),
        (T5Config(), {"shape": Shape(1, 8)}, "T5Config: encoder-decoder models are not planned"),
    ],
)
def test_what_cannot_be_planned_is_refused(config, job, message):
    with pytest.raises(CircuitsError, match=message):
        plan(config, Job(**job))
