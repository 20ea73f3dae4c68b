"""Metrics against a plain loop over reads."""

import math

import pytest
import torch

from circuits.errors import CircuitsError
from circuits.metrics import METRICS, metric_for
from tasks.pairs import PairSet, PromptPair


@pytest.fixture
def pairs():
    return PairSet(
        (
            PromptPair((1, 2, 3), (1, 4, 3), ((5,), (6,)), ((7,), ())),
            PromptPair((1, 2), (3, 2), ((5, 6, 7),), ((8, 9),)),
        ),
        metric="logit-difference",
    )


def by_hand(name, logits, clean, pairs):
    """One example after the other, one read after the other."""
    values = []
    for pair in pairs:
        found = []
        for right, wrong in zip(pair.answer, pair.wrong, strict=True):
            row, reference = logits.pop(0).tolist(), clean.pop(0).tolist()
            total = sum(map(math.exp, row))
            probability = [math.exp(x) / total for x in row]
            if name == "logit-difference" and wrong:
                found.append(
                    sum(row[t] for t in right) / len(right)
                    - sum(row[t] for t in wrong) / len(wrong)
                )
            if name == "answer-log-probability":
                found.append(math.log(sum(probability[t] for t in right)))
            if name == "probability-difference" and wrong:
                found.append(
                    sum(probability[t] for t in right) - sum(probability[t] for t in wrong)
                )
            if name == "accuracy":
                found.append(float(row.index(max(row)) in right))
            if name == "kl-divergence":
                norm = sum(map(math.exp, reference))
                other = [math.exp(x) / norm for x in reference]
                found.append(
                    -sum(q * math.log(q / p) for q, p in zip(other, probability, strict=True))
                )
        values.append(sum(found) / len(found))
    return values


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_equals_the_loop(name, pairs):
    batch = pairs.batch([0, 1])
    draw = torch.Generator().manual_seed(0)
    logits, clean = (torch.randn(3, 12, generator=draw) for _ in range(2))
    logits[0, 5] = 9.0  # one hit, so that accuracy is not all misses
    found = metric_for(pairs, name)(logits, batch, clean)
    expected = by_hand(name, list(logits), list(clean), pairs)
    assert any(abs(value) > 1e-3 for value in expected)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_missing_wrong_answer_names_the_row():
    pairs = PairSet((PromptPair((1,), (2,), ((3,),), source="pairs.csv, row 4"),))
    with pytest.raises(CircuitsError, match=r"pairs\.csv, row 4: logit-difference needs a wrong"):
        metric_for(pairs, "logit-difference")
    assert metric_for(pairs).name == "answer-log-probability"


def test_infinity_names_the_row(pairs):
    batch = pairs.batch([0, 1])
    logits = torch.zeros(3, 12)
    logits[2, 5] = torch.inf
    with pytest.raises(CircuitsError, match="pair: logit-difference is inf"):
        METRICS["logit-difference"](logits, batch)
