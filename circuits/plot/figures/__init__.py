"""Plots as plain plotly values: results in, `data` and `layout` out. Nothing here reads a file.

Colours are names that `circuits.plot.palette` looks up.
"""
