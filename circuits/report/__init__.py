"""The report: one self-contained HTML page from the files of a run folder.

`run` reads the folder, `sections/` say in words what is in it, `figures/` draw it, `page` puts it
together. Nothing here computes a result: every number on the page stands in a file of the folder.
"""

from circuits.report.page import write_report

__all__ = ["write_report"]
