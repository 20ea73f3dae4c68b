"""Lines that a user should read once, however often their cause comes up."""

from __future__ import annotations

import logging
from functools import cache

_log = logging.getLogger(__name__)


@cache
def say(line: str) -> None:
    """Log a line as a warning, the first time that it is said.

    Args:
        line: what to say.
    """
    _log.warning("warning: %s", line)
