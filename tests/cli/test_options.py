"""What --task-option's text turns into."""

from pathlib import Path

import pytest

from circuits.cli.options import DataOptions, load_task
from circuits.errors import CircuitsError


def test_text_stays_as_it_was_given():
    given = ["prompt= TL;DR:", "filler= the", "summary_column=[a", "salient=3", "add_bos=True"]
    task = load_task(
        "summarization",
        DataOptions(data=Path(__file__), task_option=[*given, "max_article_tokens=null"]),
    )
    assert (task.prompt, task.filler, task.summary_column) == (" TL;DR:", " the", "[a")
    assert (task.salient, task.add_bos, task.max_article_tokens) == (3, True, None)
    assert load_task("transitive", DataOptions(task_option=["fraction=0.5"])).fraction == 0.5


@pytest.mark.parametrize(
    ("task", "option", "what"),
    [
        ("ioi", "add_bos=maybe", "add_bos is true or false"),
        ("ioi", "add_bos=1", "add_bos is true or false"),
        ("name-copying", "distance=1.5", "distance is a whole number"),
        ("transitive", "fraction=half", "fraction is a number"),
        ("ioi", "volume=11", "has no option 'volume'"),
        ("ioi", "add_bos", "write key=value"),
    ],
)
def test_other_values_are_refused_by_name(task, option, what):
    with pytest.raises(CircuitsError, match=what):
        load_task(task, DataOptions(task_option=[option]))
