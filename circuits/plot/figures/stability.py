"""How often each edge is selected when examples are drawn again."""

from __future__ import annotations

from circuits.evaluation import Stability
from circuits.format import compact, percent
from circuits.plot.figures.panels import label
from circuits.plot.plotly_figure import Plot


def inclusion(stability: Stability) -> Plot:
    """How often edges (nodes, neurons) are selected, from the most to the least often.

    Args:
        stability: of a circuit.

    Returns:
        A plot, as `circuits.plot.draw` takes it.
    """
    ordered = sorted(stability.frequencies.items(), key=lambda item: (-item[1], item[0]))
    inside = set(stability.circuit)
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": title,
            "x": [rank for rank, (name, _) in enumerate(ordered) if (name in inside) is in_circuit],
            "y": compact([share for name, share in ordered if (name in inside) is in_circuit]),
            "customdata": [
                f"<b>{label(name)}</b><br>in {percent(share)} of resamples"
                for name, share in ordered
                if (name in inside) is in_circuit
            ],
            "hovertemplate": "%{customdata}<extra></extra>",
            "marker": {
                "color": "$positive" if in_circuit else "$paper",
                "size": 7,
                "line": {"color": "$positive", "width": 1.4},
            },
        }
        for in_circuit, title in ((True, "in the circuit"), (False, "not in it"))
    ]
    return {
        "data": data,
        "layout": {
            "shapes": [
                {
                    "type": "line",
                    "xref": "x domain",
                    "x0": 0,
                    "x1": 1,
                    "y0": stability.chance,
                    "y1": stability.chance,
                    "line": {"color": "$faint", "width": 1, "dash": "dash"},
                    "layer": "below",
                }
            ],
            "xaxis": {
                "title": {"text": f"{stability.level}s, most often selected first"},
                "showgrid": False,
            },
            "yaxis": {
                "title": {"text": "share of resamples"},
                "range": [-0.04, 1.06],
                "tickformat": ".0%",
            },
            "margin": {"t": 46},
        },
    }
