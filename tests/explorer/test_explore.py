"""`circuits.explore` and the verb: a page of a run, a server of a model, in a notebook or not."""

from __future__ import annotations

import sys
import urllib.request
from types import SimpleNamespace
from unittest import mock

import pytest

import circuits
from circuits.cli.app import main
from circuits.explorer import explore


@pytest.fixture
def notebook(monkeypatch):
    """What is shown below the cell of a pretended notebook."""
    shown = []
    display = SimpleNamespace(display=lambda data, raw: shown.append(data["text/html"]))
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def test_a_model_is_served_from_modules_of_its_own(hooked, random_pairs, notebook):
    model = hooked("gpt2")
    server = explore(model, random_pairs(n=2))
    try:
        mine = server.backend.model
        ours, theirs = (
            dict(one.hf.named_parameters(remove_duplicate=False)) for one in (model, mine)
        )
        assert all(theirs[name].data_ptr() == one.data_ptr() for name, one in ours.items())
        assert not {*map(id, model.hf.modules())} & {*map(id, mine.hf.modules())}
        assert server.address.url in notebook[0]
        with urllib.request.urlopen(server.address.url) as answer:
            policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors http://localhost:*" in policy
    finally:
        server.stop()


def test_a_run_stands_below_the_cell(whole_run, notebook):
    assert explore(whole_run) is None
    assert notebook[0].startswith("<iframe srcdoc=") and "explorer-contents" in notebook[0]


def test_what_cannot_be_shown_is_refused_in_a_line(
    hooked, random_pairs, whole_run, tmp_path, monkeypatch
):
    with pytest.raises(circuits.CircuitsError, match="go with a model"):
        explore(whole_run, random_pairs(n=2))
    with pytest.raises(circuits.CircuitsError, match=r"\.html"):
        explore(whole_run, path=tmp_path / "page.svg")
    monkeypatch.setitem(sys.modules, "circuits.explorer.live.serve", None)
    with pytest.raises(circuits.CircuitsError, match=r'pip install "circuit-discovery\[explore\]"'):
        explore(hooked("gpt2"))


@pytest.fixture
def served(monkeypatch):
    """What a server that is not started would have served."""
    backends = []

    def serve(server):
        backends.append(server.backend)
        server._socket.close()
        server.backend.worker.stop()

    monkeypatch.setattr("circuits.explorer.live.serve.ExplorerServer.run", serve)
    return backends


def run_verb(*words):
    with mock.patch.object(sys, "argv", ["circuits", "explore", *map(str, words)]):
        main()


def test_the_verb_writes_a_page_and_says_what_is_wrong(whole_run, tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        run_verb(whole_run, "--page", tmp_path / "page.html")
    assert (tmp_path / "page.html").is_file()
    for words, said in (
        ((), "name a run folder, or a model"),
        (("--page", tmp_path / "b.html"), "name the run folder"),
        ((tmp_path / "none",), "no such run folder"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run_verb(*words)
        assert said in capsys.readouterr().err


def test_the_verb_serves_a_run_whose_model_is_not_here(whole_run, served, capsys):
    """The made-up run names models that nobody has: the page says so, and shows the circuits."""
    with pytest.raises(SystemExit, match="0"):
        run_verb(whole_run)
    assert "open http://127.0.0.1:" in capsys.readouterr().out
    (backend,) = served
    assert backend.about()["live"] is None
    assert any("nothing answers clicks" in line for line in backend.contents["missing"])


def test_the_verb_serves_a_model_and_a_tasks_pairs(model_folder, served, tmp_path):
    rows = (
        "clean,corrupted,correct,incorrect",
        " the capital of France, the capital of Italy, Paris, Rome",
    )
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    words = ("--model", model_folder("gpt2"), "--task", "table", "--data", tmp_path / "pairs.csv")
    with pytest.raises(SystemExit, match="0"):
        run_verb(*words, "--device", "cpu")
    about = served[0].about()["live"]
    assert about["task"] == {"name": "table", "n": 1, "metric": "logit-difference"}
    assert "from_pretrained" in about["load"]
