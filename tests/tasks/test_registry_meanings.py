"""Every option of every task says what it means."""

import pytest

import tasks
from tasks.registry import meanings


@pytest.mark.parametrize("name", tasks.names())
def test_every_option_has_a_sentence(name):
    said = meanings(name)
    assert said.keys() == tasks.options(name).keys()
    assert all(len(text) > 8 for text in said.values())


def test_one_line_may_be_of_several_options():
    said = meanings("table")
    assert said["clean"] == said["corrupted"] and "{peer.question}" in said["clean"]
