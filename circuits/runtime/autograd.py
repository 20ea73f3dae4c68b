"""What torch hands to the functions of ours that have a backward pass of their own."""

from __future__ import annotations

from typing import Any

Context = Any
"""The `ctx` of a `torch.autograd.Function`. Any: torch makes one for every run, of a class that it
makes too, and it takes any attribute."""
