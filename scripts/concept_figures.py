"""Draw the figures of docs/concepts that show numbers, from the embedded model, as SVG.

    python scripts/concept_figures.py

Scores are of 64 pairs of the task `newsroom`, circuits are judged on 40 others.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import circuits
import tasks
from circuits.importance import importance_from_circuit
from circuits.runtime.files import write_text

FOLDER = Path(__file__).parents[1] / "docs" / "concepts"
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 24, 52
BLUE, GREY, ORANGE = "#2c6aa5", "#8a8a85", "#c2631c"

Line = tuple[str, str, Sequence[tuple[float, float]], int]
"""A name, a colour, points (x, y) as shares of the axes, and the point that bears the name."""


def drawing(parts: Sequence[str], label: str) -> str:
    """A figure on a light ground, which is readable on a dark page too.

    Args:
        parts: what is drawn.
        label: what it shows, for those who do not see it.

    Returns:
        SVG.
    """
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{label}" font-family="sans-serif" font-size="13" fill="#333">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fbfbf8"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, *, at: str = "start", colour: str = "#333") -> str:
    """Words at a place; at: which part of them stands there."""
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{at}" fill="{colour}">{words}</text>'


def place(x: float, y: float) -> tuple[float, float]:
    """Where shares of the axes lie in the drawing."""
    return (
        LEFT + x * (WIDTH - LEFT - RIGHT),
        HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM),
    )


def axes(below: str, beside: str, ticks: Sequence[tuple[float, str]]) -> list[str]:
    """Two axes with their names; y runs from 0 to 1."""
    x0, y0 = place(0, 0)
    x1, y1 = place(1, 1)
    elements = [f'<path d="M{x0:.0f} {y1:.0f}V{y0:.0f}H{x1:.0f}" fill="none" stroke="#777"/>']
    elements += [text(place(tick, 0)[0], y0 + 18, label, at="middle") for tick, label in ticks]
    elements += [text(x0 - 8, place(0, tick)[1] + 4, f"{tick:g}", at="end") for tick in (0, 0.5, 1)]
    elements.append(text((x0 + x1) / 2, y0 + 38, below, at="middle"))
    elements.append(text(x0 - 40, TOP - 8, beside))
    return elements


def lines(shown: Sequence[Line]) -> list[str]:
    """Lines with their names."""
    elements = []
    for name, colour, points, label_index in shown:
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        elements.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        )
        x, y = place(*points[label_index])
        elements.append(text(x + 8, y + 4, name, colour=colour))
    return elements


def faithfulness(curve: circuits.Faithfulness) -> str:
    """f by the share of edges that is kept, beside a random ranking."""
    ticks = [(_log_share(share), f"{100 * share:g} %") for share in (0.001, 0.01, 0.1, 1.0)]
    drawn_lines = []
    for name, colour, label, label_index in (
        ("absolute", BLUE, "by score", -1),
        ("random", GREY, "random edges", -2),
    ):
        values = [estimate.value for estimate in curve.curves[name].values]
        points = [*zip(map(_log_share, curve.fractions), values, strict=True)]
        drawn_lines.append((label, colour, points, label_index))
    elements = axes("share of edges kept", "faithfulness f", ticks) + lines(drawn_lines)
    return drawing(elements, "Faithfulness by circuit size, beside random edges")


def likeness(few: circuits.Reliability) -> str:
    """How alike circuits of other examples are, by the number of examples."""
    points = [(math.log2(n / 16) / 6, value) for n, value in few.curve]
    ticks = [(math.log2(n / 16) / 6, f"{n:,}") for n, _ in few.curve]
    goal = place(0, few.target)[1]
    elements = axes("examples scored", "Jaccard index of two circuits", ticks)
    elements.append(
        f'<path d="M{LEFT} {goal:.0f}H{WIDTH - RIGHT}" stroke="{ORANGE}" stroke-dasharray="4 4"/>'
    )
    elements.append(text(WIDTH - RIGHT + 8, goal + 14, f"goal {few.target:g}", colour=ORANGE))
    return drawing(
        elements + lines([("likeness", BLUE, points, -1)]), "Likeness by number of examples"
    )


def layers(circuit: circuits.Circuit) -> str:
    """How much of the circuit lies in each layer."""
    shares = importance_from_circuit(circuit).values
    largest = max(shares)
    elements = axes("layer", "importance, of the largest", [])
    x0, x1 = place(0, 0)[0], place(1, 0)[0]
    step = (x1 - x0) / len(shares)
    for layer, share in enumerate(shares):
        x, y = x0 + layer * step, place(0, share / largest)[1]
        elements.append(
            f'<rect x="{x + step * 0.2:.0f}" y="{y:.0f}" width="{step * 0.6:.0f}" '
            f'height="{place(0, 0)[1] - y:.0f}" fill="{BLUE}"/>'
        )
        elements.append(text(x + step / 2, place(0, 0)[1] + 18, str(layer), at="middle"))
    return drawing(elements, "Importance of each layer")


def _log_share(share: float) -> float:
    return 1 + math.log10(share) / 3


def main() -> None:
    """Score, judge, draw."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    model = circuits.HookedModel.from_pretrained("newsroom-gpt2")
    task = tasks.load("newsroom")
    scores = circuits.attribute(model, task.pairs(model.tokenizer, n=64, split="train"))
    test_pairs = task.pairs(model.tokenizer, n=40, split="test")
    estimate = circuits.reliability(scores, size=48)
    figures = {
        "faithfulness": faithfulness(circuits.faithfulness(model, scores, test_pairs)),
        "likeness": likeness(estimate),
        "layers": layers(circuits.select(scores, size=48)),
    }
    for name, figure in figures.items():
        write_text(FOLDER / f"{name}.svg", figure)


if __name__ == "__main__":
    main()
