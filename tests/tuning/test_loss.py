"""The loss against the slow way: logits everywhere, Hugging Face labels."""

from __future__ import annotations

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.models.lean_training import last_layer_alone
from circuits.tuning.batches import collate, without_adapter
from circuits.tuning.loss import score_targets, summed_loss, target_logits
from circuits.tuning.targets import lora_config, wrap

MODELS = ["gpt2", "llama", "llama-mha"]


def reference_loss(model, batch):
    """Mean cross entropy by `labels`: -100 everywhere but on the target tokens."""
    tokens = torch.cat([batch.tokens, torch.zeros_like(batch.tokens[:, :1])], dim=1)
    labels = torch.full_like(tokens, -100)
    tokens[batch.example_index, batch.position + 1] = batch.labels
    labels[batch.example_index, batch.position + 1] = batch.labels
    mask = torch.cat([batch.mask, torch.zeros_like(batch.mask[:, :1])], dim=1)
    mask[batch.example_index, batch.position + 1] = True
    return model(input_ids=tokens, attention_mask=mask.long(), labels=labels).loss


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_equal_the_reference(name, load, make_examples):
    model = load(name)
    batch = collate(make_examples(6))
    expected = reference_loss(model, batch)
    expected.backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    loss = summed_loss(target_logits(model, batch), batch.labels, len(batch.labels))
    loss.backward()
    assert expected.item() > 0.5
    assert abs(loss.item() - expected.item()) < 1e-6 * max(1.0, expected.item())
    for parameter_name, parameter in model.named_parameters():
        scale = wanted[parameter_name].abs().max()
        assert scale > 0
        assert torch.allclose(parameter.grad, wanted[parameter_name], atol=1e-5 * float(scale))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gptj", "opt"])
@pytest.mark.parametrize("adapted", [False, True])
def test_the_last_layer_where_it_is_read_is_the_last_layer(name, adapted, load, make_examples):
    """Loss and gradients, the adapter's own maps included."""
    model = load(name).eval()
    if adapted:
        torch.manual_seed(0)
        last = model.config.num_hidden_layers - 1
        model = wrap(model, lora_config([0, last], model, rank=2))
        with torch.no_grad():
            for part, weight in model.named_parameters():
                if "lora_B" in part:
                    weight.normal_(std=0.3)
    batch, found = collate(make_examples(6)), []
    tail, seen = last_layer_alone(without_adapter(model)), []
    handles = [part.register_forward_hook(lambda *given: seen.append(given[2])) for part in tail]
    for modules in ((), tail):
        model.zero_grad()
        seen.clear()
        loss = summed_loss(
            target_logits(model, batch, tail=modules), batch.labels, len(batch.labels)
        )
        loss.backward()
        grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append((loss.item(), grads))
    for handle in handles:
        handle.remove()
    assert len(tail) >= 4 and len(seen) == len(tail)
    rows = [out.flatten(0, -2).abs().sum(-1) for out in seen]
    assert all(int((row > 0).sum()) <= len(batch.labels) < len(row) for row in rows)
    (expected, wanted), (loss, grads) = found
    assert loss == pytest.approx(expected, rel=1e-6) and wanted.keys() == grads.keys()
    for part, gradient in wanted.items():
        scale = float(gradient.abs().max())
        assert torch.allclose(grads[part], gradient, atol=1e-5 * scale, rtol=0), part
    assert any(float(gradient.abs().max()) > 0 for gradient in wanted.values())


def test_what_is_not_known_or_drops_is_run_everywhere(load, monkeypatch):
    model = load("gpt2")
    torch.manual_seed(0)
    wrapped = wrap(model, lora_config([2], model, rank=2, parts=("mlp",), dropout=0.1))
    assert (
        len(last_layer_alone(wrapped.get_base_model())) == len(last_layer_alone(load("gpt2"))) - 2
    )

    def refuse(_):
        raise CircuitsError("unknown parts")

    monkeypatch.setattr("circuits.models.lean_training.separable", refuse)
    assert last_layer_alone(model) == ()


@pytest.mark.parametrize("name", MODELS)
def test_padding_does_not_matter(name, load, make_examples):
    model, examples = load(name), make_examples(7)
    together = score_targets(model, examples, batch_size=7)
    for i, example in enumerate(examples):
        alone = score_targets(model, [example])
        assert alone.loss[0] == pytest.approx(together.loss[i], abs=2e-5)
        assert alone.correct[0] == together.correct[i]
    assert together.tokens == tuple(len(example.target) for example in examples)
    assert len({round(loss, 3) for loss in together.loss}) > 1


def test_means_are_over_tokens(load, make_examples):
    model, examples = load("gpt2"), make_examples(5)
    scores = score_targets(model, examples, batch_size=2)
    batch = collate(examples)
    with torch.no_grad():
        logits = target_logits(model, batch)
    loss = torch.nn.functional.cross_entropy(logits, batch.labels)
    assert scores.mean_loss == pytest.approx(loss.item(), abs=1e-5)
    accuracy = (logits.argmax(-1) == batch.labels).float().mean()
    assert scores.token_accuracy == pytest.approx(accuracy.item())


def test_scoring_leaves_the_mode_and_no_hook(load, make_examples):
    model = load("gpt2").train()
    score_targets(model, make_examples(2))
    assert model.training
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_a_model_without_an_unembedding_is_refused(load, make_examples, monkeypatch):
    model = load("gpt2")
    monkeypatch.setattr(model, "get_output_embeddings", lambda: torch.nn.Linear(1, 1))
    with pytest.raises(CircuitsError, match="get_output_embeddings"):
        target_logits(model, collate(make_examples(3)))
