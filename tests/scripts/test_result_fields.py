"""A schema version goes up where files of before can no longer be read."""

import copy
import importlib
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
record = importlib.import_module("result_fields")


def before():
    return json.loads(record.RECORD.read_text(encoding="utf-8"))


def test_files_of_before_are_read_or_refused_by_their_version():
    assert not record.unreadable(before(), record.fields())


def test_the_record_is_current():
    assert before() == record.fields(), "run python scripts/result_fields.py"


def evaluation(kinds):
    (name,) = (name for name in kinds if name.startswith("evaluation "))
    return name, kinds[name]


@pytest.mark.parametrize(
    ("part", "key", "became", "line"),
    [
        ("Evaluation", "order", None, "order is gone"),
        ("Curve", "new", ["number"], "new must be given"),
        ("Estimate", "low", ["number"], "low is another"),
        ("Evaluation", "order", [{"list": ["integer"]}], "order is another"),
        ("Evaluation", "new?", ["number"], None),
        ("Estimate", "low", ["number", "null", "string"], None),
        ("Estimate", "n", ["number"], None),
    ],
)
def test_what_a_version_has_to_tell(part, key, became, line):
    now = copy.deepcopy(before())
    name, parts = evaluation(now)
    parts[part].pop(key, None)
    if became is not None:
        parts[part][key] = became
    told = record.unreadable(before(), now)
    assert f"{name}: {part}: {line}" in told if line else not told
    now[name.replace(name.split()[1], "99")] = now.pop(name)
    assert not [one for one in record.unreadable(before(), now) if one.startswith("evaluation ")]
