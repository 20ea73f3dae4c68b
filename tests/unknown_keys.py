"""A result file with a key that no version wrote is refused by that key's name."""

import json

import pytest

from circuits.errors import CircuitsError


def refused(load, path, places):
    """places: where a key is put in the file's record (a path of keys), and the key."""
    whole = path.read_text()
    other = path.with_name("unknown.json")
    for place, key in places.items():
        record = json.loads(whole)
        inside = record
        for step in place:
            inside = inside[step]
        inside[key] = None
        other.write_text(json.dumps(record))
        with pytest.raises(CircuitsError, match=rf"unknown\.json: .*unknown key '{key}'"):
            load(other)
    assert load(path) is not None
