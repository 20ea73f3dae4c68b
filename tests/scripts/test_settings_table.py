"""docs/settings.md says what the dataclasses say."""

import importlib
import math
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest

from circuits.options.circuit import CircuitOptions
from circuits.options.declared import Options, Sensible, Within, hints, noted
from circuits.options.listing import settings, valid

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


def advised():
    """The dataclasses of the package, and each of their fields that has a sensible range."""
    for kind in subclasses(Options):
        for name, hint in hints(kind).items():
            if kind.__module__.startswith("circuits.") and noted(hint, Sensible) is not None:
                yield kind, name, noted(hint, Sensible)


def numbers(value):
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, int | float) and not isinstance(one, bool):
            yield one


def test_a_sensible_range_stands_in_the_row_of_its_setting():
    row = next(row for row in table.page().splitlines() if row.startswith("| `fraction` |"))
    assert [cell.strip() for cell in row.split("|")][4] == (
        "0.01 to 0.1 of edges ([why](real-models.md#scores-and-rankings))"
    )
    kinds = {kind for kind, *_ in advised()}
    rows = [row for kind in kinds for row in settings(kind) if row.sensible is not None]
    assert table.page().count("([why](") == len(rows) > 12


def test_defaults_are_sensible_and_what_is_sensible_is_valid():
    defaults = 0
    for kind, name, sensible in advised():
        assert sensible.least <= sensible.most and math.isfinite(sensible.least), (kind, name)
        bounds = noted(hints(kind)[name], Within) or Within()
        ends = [end for end in (sensible.least, sensible.most) if math.isfinite(end)]
        assert all(end in bounds for end in ends), (kind, name)
        for number in numbers(getattr(kind, name, None)):
            assert number in sensible, (kind, name)
            defaults += not sensible.scope
    assert defaults > 5


def test_every_reason_is_on_a_page():
    """The heading that it names, as the site makes anchors."""
    for kind, name, sensible in advised():
        page, _, anchor = sensible.page.partition("#")
        text = (table.DOCUMENT.parent / page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)", text, re.M)
        plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
        anchors = {re.sub(r"[-\s]+", "-", heading) for heading in plain}
        assert not anchor or anchor in anchors, (kind, name)


@pytest.mark.parametrize(
    ("sensible", "words"),
    [
        (Sensible(5, 10, "p.md"), "5 to 10"),
        (Sensible(16, math.inf, "p.md"), "at least 16"),
        (Sensible(0.8, 0.8, "p.md", "on SmolLM2"), "0.8 on SmolLM2"),
    ],
)
def test_sensible_values_in_words(sensible, words):
    assert str(sensible) == words


def test_a_note_is_found_in_parts_of_a_type():
    inner = Annotated[int, Within(at_least=1), Sensible(5, 10, "p.md")]
    for hint in (inner, inner | None, tuple[inner, ...], Annotated[inner | None, "note"]):
        assert noted(hint, Within) == Within(at_least=1)
        assert noted(hint, Sensible) == Sensible(5, 10, "p.md")
    assert noted(int | None, Sensible) is None


def test_a_value_that_is_valid_and_not_sensible_is_taken():
    assert CircuitOptions(fraction=1.0).fraction == 1.0


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
