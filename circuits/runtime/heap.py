"""Memory that was freed and that the process still holds."""

from __future__ import annotations

import ctypes


def release_freed() -> None:
    """Give freed memory back to the system, where the C library is glibc and keeps it.

    What comes and goes in pieces below 32 MiB leaves its heap as large as it ever was: a small
    model that is quantised while it is loaded, hundreds of megabytes.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return
    trim(0)
