"""What the site's sources are made by, and what finds links that lead nowhere."""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Literal

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "docs_site")]
(
    command_pages,
    source_pages,
    notebook_pages,
    link_check,
    make_site,
    format_pages,
    layers_figure,
) = map(
    importlib.import_module,
    (
        "command_pages",
        "source_pages",
        "notebook_pages",
        "link_check",
        "make_site",
        "format_pages",
        "layers_figure",
    ),
)


@pytest.mark.parametrize(
    ("source", "written", "on_the_site"),
    [
        ("README.md", "[a](docs/b.md#c)", "[a](b.md#c)"),
        ("README.md", "![a](docs/b.png)", "![a](b.png)"),
        ("docs/d/e.md", "[a](../b.md) [x](../../CONTRIBUTING.md)", "[a](../b.md) [x](../more.md)"),
        ("docs/d/e.md", "[the test](../../tests/test_x.py)", "the test"),
        ("README.md", "[a](https://b.c/d.md) [e](#f)", "[a](https://b.c/d.md) [e](#f)"),
        ("README.md", "```\n[a](docs/b.md)\n```", "```\n[a](docs/b.md)\n```"),
    ],
)
def test_links_lead_to_where_files_stand_on_the_site(source, written, on_the_site):
    where = {
        "README.md": "index.md",
        "CONTRIBUTING.md": "more.md",
        "docs/b.md": "b.md",
        "docs/b.png": "b.png",
        "docs/d/e.md": "d/e.md",
    }
    assert source_pages.with_site_links(written, source, where) == on_the_site


def test_links_to_files_that_the_repository_lacks_are_found(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "README.md").write_text("[a](docs/a.md#b) [t](tests) [e](https://f.g)")
    (tmp_path / "docs" / "a.md").write_text("[up](../README.md) [gone](../tests/gone.md#x) [h](#i)")
    where = source_pages.places(tmp_path) | {"README.md": "index.md"}
    where = {source: place for source, place in where.items() if (tmp_path / source).exists()}
    assert source_pages.lost_links(where, tmp_path) == [
        "docs/a.md: ../tests/gone.md#x: no such file in the repository"
    ]


def test_documents_link_to_files_that_there_are():
    assert source_pages.lost_links(source_pages.places()) == []


def test_every_document_has_a_place():
    where = source_pages.places()
    documents = {
        path.relative_to(source_pages.ROOT).as_posix()
        for folder in ("docs", "notebooks", "tasks")
        for path in (source_pages.ROOT / folder).rglob("*")
        if path.suffix in {".md", ".ipynb"}
    }
    assert documents | {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= set(where)
    assert len({*where.values()}) == len(where) > 40


def test_a_notebook_becomes_text_and_code(tmp_path):
    cells = [("markdown", "# Title\n\nText."), ("code", "1 + 1"), ("markdown", "End.")]
    path = tmp_path / "one.ipynb"
    path.write_text(
        json.dumps({"cells": [{"cell_type": kind, "source": [text]} for kind, text in cells]})
    )
    bare = "# Title\n\nText.\n\n```python\n1 + 1\n```\n\nEnd.\n\n"
    page = notebook_pages.as_markdown(path, tmp_path)
    assert page.startswith(bare) and "[one.ipynb](one.ipynb)" in page

    held = {"code": notebook_pages.fingerprint(["1 + 1"]), "cells": [[{"text": "<2>\n"}]]}
    (tmp_path / "one.json").write_text(json.dumps(held))
    shown = '```\n\n<pre class="output">&lt;2&gt;</pre>\n\nEnd.'
    assert shown in notebook_pages.as_markdown(path, tmp_path)
    (tmp_path / "one.json").write_text(json.dumps({**held, "code": "of other code"}))
    assert notebook_pages.as_markdown(path, tmp_path) == page


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<p id="here"></p><a href="a/b.html#there">x</a><a href="#here">x</a>'
        '<a href="https://elsewhere.org/x">x</a><img src="data:image/png;base64,AA">'
    )
    (tmp_path / "a" / "b.html").write_text('<h1 id="there"></h1><a href="../index.html">x</a>')
    assert link_check.faults(tmp_path) == []
    (tmp_path / "a" / "b.html").write_text(
        '<a href="../no.html">x</a><a href="../index.html#no">x</a>'
        '<script src="https://cdn.org/x.js"></script><link rel="stylesheet" href="no.css">'
    )
    assert sorted(link_check.faults(tmp_path)) == [
        "a/b.html: ../index.html#no: index.html has no such anchor",
        "a/b.html: ../no.html: no such page or file",
        "a/b.html: loads https://cdn.org/x.js, which is not of this site",
        "a/b.html: no.css: no such page or file",
        "index.html: a/b.html#there: a/b.html has no such anchor",
    ]


def test_a_page_that_no_menu_leads_to_is_named(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("a.md", "b.md"):
        (tmp_path / "docs" / name).write_text("# x")
    menu = tmp_path / "menu.yml"
    menu.write_text("nav: [{One: [a.md]}]")
    assert make_site.menu_faults(tmp_path / "docs", menu) == ["b.md: not in the menu of menu.yml"]


def test_what_a_docstring_says_of_fields():
    text = "What it is.\n\nAttributes:\n    one: first, as in a: b.\n    two, three: both.\n"
    names = dict.fromkeys(("one", "two", "three", "four"))
    assert format_pages.meanings_of(text, names) == {
        "one": "first, as in a: b",
        "two": "both",
        "three": "both",
    }


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (dict[str, float | None], "names, for each number or null"),
        (tuple[int, ...], "list of whole number"),
        (tuple[int, str], "list of whole number and text"),
        (Literal["a", "b"], "`a`, `b`"),
    ],
)
def test_what_stands_in_a_file(hint, words):
    assert format_pages.in_words(hint) == words


def test_flags_stand_in_a_narrow_column_with_their_words_beside():
    page = command_pages.page()
    rows = [line.split(" | ", 1) for line in page.splitlines() if line.startswith("| `--")]
    assert len(rows) > 200 and max(len(flag) for flag, _ in rows) < 60
    words = "Some of, with commas between: `layer`, `position`, `head`, `neuron`."
    assert any(flag == "| `--sweep`" and words in meaning for flag, meaning in rows)
    assert any("--method" in flag and "eap-ig (gradients" in meaning for flag, meaning in rows)
    assert not {"{methods}", "{node_methods}", "{jobs}"} & {*re.findall(r"{\w+}", page)}


def test_the_drawing_of_the_layers_is_current():
    drawn = layers_figure.FIGURE.read_text(encoding="utf-8")
    assert drawn == layers_figure.figure(), "run python scripts/layers_figure.py"
    assert ["cli"] in layers_figure.layers() and ">attribution<" in drawn
