import subprocess
import sys

import pytest

import tasks
from tasks.errors import CircuitsError, InputError, TooFewError, error_context


def test_the_known_tasks():
    assert tasks.names() == (
        *("agreement", "capitals", "comparison", "docstring", "greater-than", "huggingface"),
        *("hypernymy", "induction", "ioi", "mib-arc", "mib-arithmetic", "mib-ioi", "mib-mcqa"),
        *("name-copying", "newsroom", "pronoun", "summarization", "table", "transitive"),
    )
    for name in tasks.names():
        assert tasks.describe(name)
        assert isinstance(tasks.options(name), dict)
    assert tasks.options("summarization")["corruption"] == "swap"


@pytest.mark.parametrize("ask", [tasks.load, tasks.options, tasks.describe])
def test_an_unknown_task_lists_the_known(ask):
    message = "unknown task 'ioy'; the known tasks are: agreement, capitals, comparison, doc"
    with pytest.raises(CircuitsError, match=message):
        ask("ioy")


def test_an_unknown_or_a_missing_option_is_named():
    with pytest.raises(CircuitsError, match="'table' has no option 'file'; it takes: path, add_b"):
        tasks.load("table", file="pairs.csv")
    with pytest.raises(CircuitsError, match="task 'table' needs the option 'path'"):
        tasks.load("table")


def test_the_public_names_are_there():
    for name in tasks.__all__:
        assert getattr(tasks, name) is not None
    assert dir(tasks) == sorted(tasks.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tasks.nothing  # noqa: B018


def test_import_is_light():
    code = (
        "import sys, tasks; tasks.names();"
        "assert not {'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_error_context_puts_the_row_first():
    with pytest.raises(CircuitsError, match=r"^a\.csv, row 1: bad$"), error_context("a.csv, row 1"):
        raise CircuitsError("bad")


def test_error_context_keeps_the_kind_of_error_and_what_it_holds():
    with pytest.raises(TooFewError, match=r"^a\.csv: only 2$") as found, error_context("a.csv"):
        raise TooFewError("only 2", there=2)
    assert found.value.there == 2
    with pytest.raises(InputError, match=r"^row 3: bad$"), error_context("row 3"):
        raise InputError("bad")
