"""The loss against the slow way: logits everywhere, Hugging Face labels."""

from __future__ import annotations

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.tuning.batches import collate
from circuits.tuning.loss import score_targets, summed_loss, target_logits

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
