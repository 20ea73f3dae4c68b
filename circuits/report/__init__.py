"""The report: one self-contained HTML page from the files of a run folder.

`run` reads the folder, `sections/` describe it in words, tables and the figures of `circuits.plot`,
`run_page` puts them together. Nothing here computes a result: every number on the page is in a file
of the folder.
"""

from circuits.report.run_page import write_report

__all__ = ["write_report"]
