"""How long a verb and its steps took, said in one line at the end.

Errors are one line, so nothing is said before it is known that there is none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer

_done: list[tuple[str, float]] = []


@contextmanager
def step(action: str) -> Iterator[None]:
    """A step of a verb.

    action: what is done, as in "loading gpt2".
    """
    began = time.perf_counter()
    yield
    _done.append((action, time.perf_counter() - began))


@contextmanager
def timed(verb: str) -> Iterator[None]:
    """A verb, whose time and steps are told when it is done; one that ends in an error is not."""
    _done.clear()
    began = time.perf_counter()
    yield
    from circuits.format import duration  # not before: it imports torch

    steps = ", ".join(f"{name} {duration(seconds)}" for name, seconds in _done)
    took = duration(time.perf_counter() - began)
    typer.echo(f"{verb} took {took}{f' ({steps})' if steps else ''}")
