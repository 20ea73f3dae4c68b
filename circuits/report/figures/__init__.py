"""Plots as plain plotly values: numbers in, `data` and `layout` out; no files, no words of finding.

Colours are names that `circuits.report.palette` looks up.
"""
