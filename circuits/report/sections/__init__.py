"""The chapters of the page: each a list of parts, which read files of the run and yield blocks.

A part that misses its file raises `AbsentError` with the reason; the page prints that line instead.
"""
