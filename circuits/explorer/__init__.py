"""The explorer: a page on which a circuit is walked through, and on which a model answers clicks.

One front end (`assets/`, plain ES modules) has two sources: what `contents` packs into the page
(the report, a file that is passed on), or a local server that runs the model (`live/`).
"""

from circuits.explorer.notebook import explore

__all__ = ["explore"]
