"""`circuit.show()`: a page or a cell that says in words what the picture shows."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from circuits.errors import CircuitsError
from circuits.graph import Circuit, Layout, NodeCircuit, Provenance
from circuits.graph.provenance import DataRecord
from circuits.report.circuit_page import circuit_html, write_circuit
from circuits.report.edge_words import edge_in_words, node_in_words
from circuits.report.run import Run

LAYOUT = Layout(2, 3, 3)


def test_the_page_says_what_is_kept_and_names_the_strongest(run: Run) -> None:
    circuit = run.circuits["step-300"]
    page = circuit_html(circuit)
    assert f"A circuit of {len(circuit)} edges" in page
    assert f"keeps {len(circuit)} of {circuit.layout.n_edges} edges" in page
    strongest = circuit.to_frame().iloc[0]
    edge = f"{strongest.source}->{strongest.reader}"
    first = page.partition("<tbody>")[2].partition("</tr>")[0]
    assert edge.replace("<", "&lt;").replace(">", "&gt;") in first
    assert edge_in_words(edge) in first and f"{strongest.score:.3g}".replace("-", "\u2212") in first
    assert page.count("<tr>") == 11 and page.count("<svg") == 1
    assert "<script" not in page


def test_outside_a_notebook_it_writes_a_page_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Provenance(
        metric="logit-difference",
        data=DataRecord(task="<b>ioi</b>", split="train", n=4, fingerprint="0"),
    )
    circuit = Circuit(LAYOUT, Circuit.of(LAYOUT, ["input->m0"]).mask, provenance=made)
    for _ in range(2):  # its own page it writes again
        circuit.show()
        said = capsys.readouterr().out
        assert said == f"wrote {tmp_path / 'circuit.html'} (open it in a browser)\n"
    page = (tmp_path / "circuit.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "<title>A circuit of 1 edge for " in page
    assert "<b>ioi" not in page and "&lt;b&gt;ioi" in page
    (tmp_path / "circuit.html").write_text("<p>mine</p>")
    with pytest.raises(CircuitsError, match=r"circuit\.html: is there already.*name another file"):
        circuit.show()
    assert (tmp_path / "circuit.html").read_text() == "<p>mine</p>"
    circuit.show(tmp_path / "c.svg")
    assert (tmp_path / "c.svg").read_text(encoding="utf-8").startswith("<svg xmlns=")
    with pytest.raises(CircuitsError, match=r"c\.png: a circuit is shown as \.html or \.svg"):
        write_circuit(circuit, tmp_path / "c.png")


@pytest.mark.parametrize("kernel", [True, False])
def test_in_a_notebook_it_stands_below_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kernel: bool
) -> None:
    shown: list[dict[str, str]] = []
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    shell = SimpleNamespace(kernel=object()) if kernel else SimpleNamespace()
    monkeypatch.setattr(ipython, "get_ipython", lambda: shell, raising=False)
    monkeypatch.setattr(display, "display", lambda data, raw: shown.append(data), raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.chdir(tmp_path)
    circuit = Circuit.of(LAYOUT, ["input->m0", "m0->logits"])
    circuit.show()
    if kernel:
        assert shown == [{"text/html": circuit_html(circuit), "text/plain": repr(circuit)}]
        assert not [*tmp_path.iterdir()]
    else:  # IPython in a terminal shows no HTML
        assert not shown and (tmp_path / "circuit.html").is_file()


def test_a_circuit_of_nodes_has_a_page_too() -> None:
    page = circuit_html(NodeCircuit.of(LAYOUT, ["input", "a1.h2", "m0"]))
    assert "A circuit of 2 nodes" in page and "The circuit keeps 2 of 8 nodes" in page
    assert "No edges are drawn" in page and "<table" not in page


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("input->a0.h3<q>", "the input is read by head 3 of layer 0, for its query: what it "),
        ("a1.h2->a4.kv1<k>", "head 2 of layer 1 is read by KV head 1 of layer 4, for its keys"),
        ("enc.m1->x0.h1<v>", "the MLP of layer 1 of the encoder is read by cross-attention head 1"),
        ("m11->logits", "the MLP of layer 11 is read by the logits"),
    ],
)
def test_edges_in_words(name: str, words: str) -> None:
    assert edge_in_words(name).startswith(words)


def test_nodes_in_words() -> None:
    assert node_in_words("m3[17]") == "the MLP of layer 3, unit 17"
    assert node_in_words("a1.h0") == "head 0 of layer 1"
