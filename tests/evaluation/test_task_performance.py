"""Whether a model does the task: against plain counts, and where it does not."""

import math

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.evaluation import TaskPerformance, task_performance
from circuits.statistics.estimate import Estimate
from tasks.pairs import PairSet, PromptPair


def plainly(model, pairs):
    """Each pair alone through the Hugging Face model: (right - wrong logit, most likely token)."""
    rows = []
    for pair in pairs:
        logits = model.hf(torch.tensor([pair.clean])).logits[0, -1]
        right, wrong = pair.answer[0][0], pair.wrong[0][0]
        rows.append((float(logits[right] - logits[wrong]), int(logits.argmax()) == right))
    return rows


def test_equals_a_plain_count(hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=24, lengths=[6 + k % 5 for k in range(24)])
    found = task_performance(model, pairs)
    rows = plainly(model, pairs)
    share = sum(difference > 0 for difference, _ in rows) / 24
    assert 0 < share < 1, "a reference of all or nothing would show little"
    assert found.accuracy.value == pytest.approx(share)
    assert found.clean.value == pytest.approx(sum(d for d, _ in rows) / 24, abs=1e-5)
    assert found.choice and found.chance == 0.5 and found.n == 24


def test_interval_is_wilsons(hooked, random_pairs):
    found = task_performance(hooked("gpt2"), random_pairs(n=24)).accuracy
    z, n, p = 1.959963984540054, found.n, found.value
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (found.low, found.high) == pytest.approx((middle - reach, middle + reach))


def test_without_wrong_answers_the_whole_vocabulary_competes(hooked, random_pairs):
    model, pairs = hooked("llama"), random_pairs(n=6)
    best = [int(model.hf(torch.tensor([pair.clean])).logits[0, -1].argmax()) for pair in pairs]
    made = [
        PromptPair(
            pair.clean, pair.corrupted, ((token if k < 4 else (token + 1) % 400,),), source="x"
        )
        for k, (pair, token) in enumerate(zip(pairs, best, strict=True))
    ]
    found = task_performance(model, PairSet(tuple(made), metric="answer-log-probability"))
    assert found.accuracy.value == pytest.approx(4 / 6) and not found.choice
    answers = [pair.answer[0][0] for pair in made]
    assert found.chance == pytest.approx(max(map(answers.count, answers)) / 6)


def test_a_model_that_guesses_is_doubted(hooked, random_pairs):
    found = task_performance(hooked("gpt2"), random_pairs(n=24, seed=3))
    assert any("chance" in doubt for doubt in found.doubts)
    assert any(line.startswith("warning") for line in found.lines())
    with pytest.raises(CircuitsError, match=r"below the required 0\.99"):
        found.require_accuracy(0.99)
    found.require_accuracy(found.accuracy.value)


def made(accuracy, difference):
    middle = Estimate(1.0, 0.9, 1.1, 50)
    return TaskPerformance(
        metric="logit-difference",
        clean=middle,
        corrupted=middle,
        difference=difference,
        accuracy=accuracy,
        corrupted_accuracy=middle,
        chance=0.5,
        choice=True,
    )


def test_doubts_are_of_chance_and_of_the_difference():
    good, sure = Estimate(0.9, 0.8, 0.95, 50), Estimate(3.0, 2.0, 4.0, 50)
    assert made(good, sure).doubts == ()
    assert "chance" in made(Estimate(0.6, 0.45, 0.7, 50), sure).doubts[0]
    assert "not told apart" in made(good, Estimate(0.1, -0.2, 0.4, 50)).doubts[0]
    assert "lower on clean" in made(good, Estimate(-3.0, -4.0, -2.0, 50)).doubts[0]


def test_json_form_comes_back(hooked, random_pairs):
    found = task_performance(hooked("gpt2"), random_pairs(n=5))
    assert TaskPerformance.model_validate(found.model_dump(mode="json")) == found


def test_one_pair_has_no_interval_of_the_metric(hooked, random_pairs):
    found = task_performance(hooked("gpt2"), random_pairs(n=1))
    assert math.isnan(found.clean.low) and "no interval" in found.lines()[0]
    assert found.doubts
