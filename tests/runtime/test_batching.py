"""Batches: their usual size, and what becomes of one that does not fit."""

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.runtime.batching import over_batches, usual_batch_size


def test_usual_sizes():
    assert usual_batch_size(128, 100, "cpu") == 16
    assert usual_batch_size(128, 100, "cuda:1") == 64
    assert usual_batch_size(128, 5, "cpu") == 5
    assert usual_batch_size(4096, 5, "cpu") == 1
    assert usual_batch_size(100, 50, "cpu", 1024) == 10


@pytest.fixture
def sizes_of(hooked):
    def sizes(pairs, work, **settings):
        done = over_batches(hooked("gpt2"), pairs, work, **settings)
        return [len(batch) for batch, _ in done]

    return sizes


def test_a_host_without_memory_halves_too(sizes_of, random_pairs, caplog):
    def work(_, batch):
        return torch.empty(2**62 if len(batch) > 2 else 1, dtype=torch.uint8)

    assert sizes_of(random_pairs(n=7), work, batch_size=7) == [1, 2, 2, 2]
    assert "out of memory with 7 examples; going on with half as many" in caplog.text


def test_one_example_that_does_not_fit_is_named(sizes_of, random_pairs):
    with pytest.raises(CircuitsError, match="random pair 0: out of memory with one example of 9"):
        sizes_of(random_pairs(n=2), lambda *_: torch.empty(2**62, dtype=torch.uint8))


def test_other_failures_stay_what_they_are(sizes_of, random_pairs):
    def work(*_):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        sizes_of(random_pairs(n=2), work)
