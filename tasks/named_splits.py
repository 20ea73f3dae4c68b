"""The parts of a task's examples, by name."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "validation", "test", "all"]
