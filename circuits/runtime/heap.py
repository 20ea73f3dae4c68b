"""Memory that was freed and that the process still holds, where the C library is glibc.

What comes and goes in pieces below 32 MiB, glibc keeps on its heap, with holes between what stays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MMAP_THRESHOLD = -3  # of mallopt
_MOST = 2**25  # what glibc lets its threshold grow to by itself


def release_freed() -> None:
    """Give freed memory back to the system.

    A small model that is quantised while it is loaded leaves hundreds of megabytes.
    """
    if (trim := _of_glibc("malloc_trim")) is not None:
        trim(0)


@contextmanager
def given_back_from(size: int) -> Iterator[None]:
    """Within, blocks of so many bytes or more go back to the system when they are freed.

    So they leave no holes, but their next pages have to be asked for again: it takes time.

    Args:
        size: bytes; of larger ones than 32 MiB it is so anyway.

    Yields:
        Nothing.
    """
    change = _of_glibc("mallopt")
    if change is None:
        yield
        return
    release_freed()
    change(_MMAP_THRESHOLD, min(size, _MOST))
    try:
        yield
    finally:
        change(_MMAP_THRESHOLD, _MOST)  # glibc's own comes to the same after a few large ones


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where another one has none of the name."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return function
