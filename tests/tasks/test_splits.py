from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import splits
from tasks.errors import CircuitsError
from tasks.files import Row


def rows(*values):
    return [Row(f"a.csv, row {i}", value) for i, value in enumerate(values, start=1)]


def test_the_hash_gives_the_same_shares_everywhere():
    counts = Counter(splits.part(f"text {i}") for i in range(2000))
    assert counts == {"train": 1567, "validation": 212, "test": 221}


@given(st.lists(st.text(), max_size=30))
def test_the_parts_are_disjoint_and_make_the_whole(texts):
    every = rows(*({"text": text} for text in texts))
    parts = [
        splits.choose(every, split, lambda row: row.values["text"])
        for split in ("train", "validation", "test")
    ]
    assert sorted(row.source for part in parts for row in part) == sorted(
        row.source for row in every
    )
    seen = [{row.values["text"] for row in part} for part in parts]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert list(splits.choose(every, "all", str)) == every


def test_a_split_column_decides():
    every = rows({"split": "train"}, {"split": "Dev"}, {"split": "test"}, {"split": "val"})
    chosen = splits.choose(every, "validation", str)
    assert [row.source for row in chosen] == ["a.csv, row 2", "a.csv, row 4"]


def test_bad_split_names(unchecked):
    with pytest.raises(CircuitsError, match=r"a\.csv, row 2: 'held' is not a split"):
        splits.choose(rows({"split": "train"}, {"split": "held"}), "train", str)
    with pytest.raises(CircuitsError, match=r"a\.csv, row 2: no value in column 'split'"):
        splits.choose(rows({"split": "train"}, {}), "train", str)
    with pytest.raises(CircuitsError, match="unknown split 'dev'; it is one of: train"):
        splits.choose(rows({}), "dev", str)


@given(st.integers(1, 40), st.integers(0, 3))
def test_a_larger_sample_extends_a_smaller_one(available, seed):
    order = splits.draw(available, available, seed, "a")
    assert sorted(order) == list(range(available))
    assert splits.draw(available, 1, seed, "a")[:1] == order[:1]


def test_drawing():
    assert splits.draw(3, None, 5, "a") == [0, 1, 2]
    assert splits.draw(50, 5, 0, "a")[:5] != splits.draw(50, 5, 1, "a")[:5]
    with pytest.raises(CircuitsError, match="a: 4 rows are asked for, and there are 3"):
        splits.draw(3, 4, 0, "a")
    with pytest.raises(CircuitsError, match="a: no rows are in it"):
        splits.draw(0, None, 0, "a")
    with pytest.raises(CircuitsError, match="0 rows asked for; it must be at least 1"):
        splits.draw(3, 0, 0, "a")
