"""The arrays that the explorer's page is given, as numbers again."""

import base64

import numpy as np


def unpacked(text, kind="<f4"):
    """An array from base64; whole numbers are of kind "<u4"."""
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def edge_names(layout):
    """Every edge in the page's order: reader after reader."""
    return [
        layout.edge_name(row, column)
        for column in range(layout.shape[1])
        for row in layout.visible(column)
    ]
