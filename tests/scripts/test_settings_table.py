"""docs/settings.md says what the dataclasses say."""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest

from circuits.options.declared import Options, Within
from circuits.options.listing import valid

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
table = importlib.import_module("settings_table")


def subclasses(kind):
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def test_the_document_is_current():
    assert table.DOCUMENT.read_text(encoding="utf-8") == table.page(), (
        "run python scripts/settings_table.py"
    )


def test_every_dataclass_of_options_is_in_it():
    text = table.page()
    ours = {one for one in subclasses(Options) if one.__module__.startswith("circuits.")}
    missing = {one.__name__ for one in ours if f"### `{one.__name__}`" not in text}
    assert not missing and len(ours) > 30


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[int, Within(at_least=1)] | None, "a whole number, at least 1, or none"),
        (Literal["a", "b"], "`a`, `b`"),
        (int | Literal["auto"], "a whole number or `auto`"),
        (tuple[float, ...], "a list; each a number"),
        (dict[str, bool], "names, and for each true or false"),
    ],
)
def test_types_in_words(hint, words):
    assert valid(hint) == words
