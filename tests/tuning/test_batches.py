"""Batching: every example once an epoch, like lengths together, the same from the same seed."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.tuning.batches import (
    collate,
    fed_length,
    require_examples,
    training_order,
    training_pieces,
)
from tasks.pairs import TrainingExample


def test_reads_stand_where_the_target_is_predicted():
    batch = collate([TrainingExample((5, 6, 7), (8, 9)), TrainingExample((1, 2), (3,))])
    assert batch.tokens.tolist() == [[5, 6, 7, 8], [1, 2, 0, 0]]
    assert batch.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.example_index.tolist() == [0, 0, 1]
    assert batch.position.tolist() == [2, 3, 1]
    assert batch.labels.tolist() == [8, 9, 3]


@pytest.mark.parametrize(("n", "size"), [(1, 4), (7, 3), (100, 8), (300, 8)])
def test_every_example_once_an_epoch(n, size):
    lengths = [(7 * i) % 13 + 1 for i in range(n)]
    first = training_order(lengths, size, seed=1, epoch=0)
    assert sorted(i for batch in first for i in batch) == list(range(n))
    assert all(len(batch) == size for batch in first) or n % size
    assert first == training_order(lengths, size, seed=1, epoch=0)
    if n > 1:
        assert first != training_order(lengths, size, seed=1, epoch=1)
        assert first != training_order(lengths, size, seed=2, epoch=0)


def test_little_padding(make_examples):
    lengths = [fed_length(example) for example in make_examples(400)]
    batches = training_order(lengths, 16, seed=0, epoch=0)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


def test_batches_can_be_taken_up_at_any_step(make_examples):
    examples = make_examples(10)
    through = list(islice(training_pieces(examples, 4, seed=3), 9))
    for start in range(9):
        resumed = next(training_pieces(examples, 4, seed=3, start=start))
        assert torch.equal(resumed.batch.tokens, through[start].batch.tokens)


def test_refusals_name_the_example(load, make_examples):
    model = load("gpt2")
    with pytest.raises(CircuitsError, match="empty"):
        require_examples([], model)
    with pytest.raises(CircuitsError, match=r"row 7: 65 tokens .* holds 64"):
        require_examples([TrainingExample((1,) * 64, (2, 3), "row 7")], model)
    outside = model.config.vocab_size
    with pytest.raises(CircuitsError, match=rf"row 8: token id {outside} .* another tokenizer"):
        require_examples([TrainingExample((1, 2), (outside,), "row 8")], model)
    require_examples([TrainingExample((1,) * 64, (2,))], model)  # the last target token is not fed
