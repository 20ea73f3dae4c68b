"""As many pairs as there are, up to a number."""

import json

import pytest

import tasks
from tasks.errors import CircuitsError, TooFewError
from tasks.most import most_pairs


def test_all_rows_of_a_file_that_has_fewer(tokenizer, tmp_path):
    rows = [{"clean": [n, 9], "corrupted": [n, 8], "correct_idx": 7} for n in range(20, 29)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    task = tasks.load("table", path=tmp_path / "rows.json")
    with pytest.raises(TooFewError) as refused:
        task.pairs(tokenizer, 12, split="all")
    assert refused.value.there == 9
    found = most_pairs(task, tokenizer, 12, split="all", seed=3)
    assert found.fingerprint == task.pairs(tokenizer, 9, split="all", seed=3).fingerprint
    few = most_pairs(task, tokenizer, 4, split="all", seed=3)
    assert few.fingerprints == found.fingerprints[:4]


def test_a_wrong_number_stays_refused(tokenizer):
    with pytest.raises(CircuitsError, match="at least 1"):
        most_pairs(tasks.load("ioi"), tokenizer, 0)
