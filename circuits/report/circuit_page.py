"""A circuit as one small page: the drawing, and what it says in plain words.

The same page stands below a notebook's cell. It has no script and loads nothing.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from circuits.errors import CircuitsError
from circuits.format import count, counted, general, percent
from circuits.graph import AnyCircuit, Circuit
from circuits.plot.circuit_svg import circuit_svg
from circuits.plot.figures.circuit_graph import DRAWN, legend
from circuits.plot.palette import css_variables
from circuits.report.edge_words import edge_in_words, node_in_words
from circuits.runtime.display import notebook_display
from circuits.runtime.files import write_text

_TOP = 10
_FILE = Path("circuit.html")
_MARK = '<meta name="generator" content="circuit.show()">'
_HEAD = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f'{_MARK}\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
)


def show(circuit: AnyCircuit, path: str | Path | None = None) -> None:
    """Show a circuit in a notebook, or write its page and say where.

    Args:
        circuit: of edges, nodes or neurons.
        path: a file to write, .html or .svg; None takes circuit.html in the current folder where
            there is no notebook.

    Raises:
        CircuitsError: for another ending, and where circuit.html is there and no such page.
    """
    display = None if path is not None else notebook_display()
    if display is not None:
        display({"text/html": circuit_html(circuit), "text/plain": str(circuit)}, raw=True)
        return
    if path is None and _FILE.exists() and not _is_ours(_FILE):
        raise CircuitsError(
            f"{_FILE}: is there already, and show() did not write it; name another file, as in "
            'show("my-circuit.html")'
        )
    page = write_circuit(circuit, path or _FILE)
    sys.stdout.write(f"wrote {page.resolve()} (open it in a browser)\n")


def write_circuit(circuit: AnyCircuit, path: str | Path) -> Path:
    """Write the page, or the drawing alone.

    Args:
        circuit: of edges, nodes or neurons.
        path: ends in .html or .svg.

    Returns:
        The path.

    Raises:
        CircuitsError: for another ending.
    """
    path = Path(path)
    if path.suffix == ".svg":
        write_text(path, circuit_svg(circuit))
    elif path.suffix == ".html":
        style = css_variables(":root") + "body{margin:0;background:var(--paper)}"
        style += ".circuits-shown{margin:0 auto}"
        head = f"{_HEAD}<title>{escape(_title(circuit))}</title>\n<style>{style}</style>\n</head>\n"
        page = f"{head}<body>\n{circuit_html(circuit)}\n</body>\n</html>\n"
        write_text(path, page)
    else:
        raise CircuitsError(f"{path}: a circuit is shown as .html or .svg")
    return path


def circuit_html(circuit: AnyCircuit) -> str:
    """The page's content, as HTML that can stand within another page."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("circuits.report").joinpath("assets", "circuit.html.j2")
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        colours=Markup(css_variables(".circuits-shown")),
        title=_title(circuit),
        facts=_facts(circuit),
        said=_said(circuit),
        drawing=Markup(circuit_svg(circuit)),
        legend=_legend(circuit),
        rows=_rows(circuit),
        what=circuit.level,
    )


def _title(circuit: AnyCircuit) -> str:
    provenance = circuit.provenance
    size = counted(len(circuit), circuit.level)
    model = f" of {provenance.model.name}" if provenance.model is not None else ""
    task = f" for {provenance.data.task}" if provenance.data is not None else ""
    return f"A circuit of {size}{model}{task}" if model or task else f"A circuit of {size}"


def _facts(circuit: AnyCircuit) -> str:
    """What it was made from, in a few words each."""
    provenance, selection = circuit.provenance, circuit.provenance.selection
    facts = [circuit.layout.summary]
    if provenance.data is not None:
        facts.append(
            f"scored on {counted(provenance.data.n, 'prompt pair')} ({provenance.data.split})"
        )
    if provenance.method is not None:
        facts.append(f"method {provenance.method}")
    if selection is not None:
        facts.append(f"selected by {selection.strategy}, {selection.ranking} scores")
    return " · ".join(facts)


def _said(circuit: AnyCircuit) -> str:
    """What the picture says, in plain words."""
    n_kept, unit = len(circuit), circuit.level
    share = (
        f"{count(n_kept)} of {count(len(circuit.candidates))} {unit}s ({percent(circuit.fraction)})"
    )
    if not isinstance(circuit, Circuit):
        return (
            f"The circuit keeps {share}. What enters the model below flows up to the logits, which "
            "choose the next token, through these alone; all others give what they would give on "
            "the corrupted prompt."
        )
    inside = sum(name not in ("input", "bias", "logits") for name in circuit.nodes)
    parts = sum(name not in ("input", "bias", "logits") for name in circuit.layout.nodes)
    text = (
        f"The circuit keeps {share}; they join {count(inside)} of {count(parts)} heads and MLPs. "
        "An edge is what one part of the model writes and another reads. The prompt enters below, "
        "the logits above choose the next token; all other edges carry what they would carry on "
        "the corrupted prompt."
    )
    if circuit.scores is not None:
        metric = circuit.provenance.metric or "metric"
        text += (
            f" An edge's score is about how much the {metric} falls if this edge alone carries its "
            "corrupted value."
        )
    return text


def _legend(circuit: AnyCircuit) -> str:
    text = f"{legend(circuit)} Point at one to see its name."
    if isinstance(circuit, Circuit) and len(circuit) > DRAWN:
        text += f" The {DRAWN} strongest edges are drawn."
    return text


def _rows(circuit: AnyCircuit) -> list[tuple[str, str, str]]:
    """The strongest edges, nodes or neurons: name, score, words."""
    if circuit.scores is None:
        return []
    frame = circuit.to_frame().head(_TOP)
    if isinstance(circuit, Circuit):
        names = [
            f"{source}->{reader}" for source, reader in zip(frame.source, frame.reader, strict=True)
        ]
        words = map(edge_in_words, names)
    else:
        names = list(frame.name)
        words = map(node_in_words, names)
    return [
        (name, general(score), sentence)
        for name, score, sentence in zip(names, frame.score, words, strict=True)
    ]


def _is_ours(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as text:
        return _MARK in text.read(500)
