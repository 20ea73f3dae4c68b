"""Fine-tuning the slow way: each example alone and unpadded, logits everywhere, labels shifted by
hand, the update written out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from circuits.options.tuning import FinetuneSettings
from tasks.pairs import TrainingExample


def summed_nats(model: nn.Module, example: TrainingExample) -> Tensor:
    """Negative log-likelihood of one example's target, summed over its tokens."""
    text = torch.tensor([[*example.prompt, *example.target]])
    chances = model(input_ids=text).logits[0].log_softmax(-1)
    total = torch.zeros(())
    for place in range(len(example.prompt), text.shape[1]):
        total = total - chances[place - 1, text[0, place]]
    return total


def train(
    model: nn.Module, steps: Iterable[Sequence[TrainingExample]], settings: FinetuneSettings
) -> list[float]:
    """AdamW with clipping on batches of examples, dropout off; the loss of each step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    first = [torch.zeros_like(p) for p in trained]
    second = [torch.zeros_like(p) for p in trained]
    losses = []
    for number, batch in enumerate(steps, start=1):
        targets = sum(len(example.target) for example in batch)
        for p in trained:
            p.grad = None
        loss = sum((summed_nats(model, one) for one in batch), torch.zeros(())) / targets
        loss.backward()
        losses.append(loss.item())
        norm = torch.stack([p.grad.square().sum() for p in trained]).sum().sqrt()
        scale = 1.0 if settings.clip is None else min(1.0, settings.clip / (norm.item() + 1e-6))
        rate, (beta1, beta2) = settings.rate(number), settings.betas
        with torch.no_grad():
            for p, m, v in zip(trained, first, second, strict=True):
                gradient = p.grad * scale
                m.mul_(beta1).add_(gradient, alpha=1 - beta1)
                v.mul_(beta2).add_(gradient.square(), alpha=1 - beta2)
                if p.ndim > 1:
                    p.mul_(1 - rate * settings.weight_decay)
                size = (v / (1 - beta2**number)).sqrt() + 1e-8
                p.sub_(rate * (m / (1 - beta1**number)) / size)
    return losses
