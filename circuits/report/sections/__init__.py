"""The chapters of the page: each a list of parts, which read files of the run and yield blocks.

A part without its file raises `MissingResultError` with the reason; the page shows that line in its
place.
"""
