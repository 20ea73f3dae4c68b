"""How numbers are written, on a page, in a sentence and in a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import overload

from circuits.statistics.estimate import Estimate

Number = int | float
MISSING = "\u2013"


def signed(value: Number | None, digits: int = 3) -> str:
    """Fixed digits with a true minus sign; a dash for what is undefined."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\u2212")


def general(value: Number | None) -> str:
    """Three significant digits, for scores of any size."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.3g}".replace("-", "\u2212")


def percent(share: Number | None, digits: int = 1) -> str:
    """A share as a percentage, a thin space before the sign."""
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{100 * share:.{digits}f}\u202f%"


def count(number: Number) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{round(number):,}".replace(",", "\u202f")


def counted(number: int, noun: str) -> str:
    """A number with what it counts: 1 checkpoint, 3 checkpoints."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def span(least: int, most: int) -> str:
    """The least and the largest of some whole numbers, or the one that they all are."""
    return str(least) if least == most else f"{least} to {most}"


def memory(size: int) -> str:
    """Bytes in MB, or from 10 GB on in GB."""
    return f"{size / 1e6:,.0f} MB" if size < 1e10 else f"{size / 1e9:,.2f} GB"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, of which there are fewer than 100."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 10 * 60:
        return f"{seconds / 60:.1f} min"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def interval(value: Estimate, digits: int = 3) -> str:
    """The interval of an estimate, without its value."""
    return f"[{signed(value.low, digits)}, {signed(value.high, digits)}]"


def estimate(value: Estimate | None, digits: int = 3) -> str:
    """An estimate with its interval, where it has one."""
    if value is None or math.isnan(value.value):
        return "undefined"
    if math.isnan(value.low):
        return signed(value.value, digits)
    return f"{signed(value.value, digits)} {interval(value, digits)}"


def p_value(p: Number | None) -> str:
    """p with its sign of relation."""
    if p is None or math.isnan(p):
        return "p undefined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


@overload
def compact(values: Sequence[float], digits: int = 4) -> list[float | None]: ...
@overload
def compact(values: object, digits: int = 4) -> object: ...
def compact(values: object, digits: int = 4) -> object:
    """Floats of any nesting at so many significant digits, None where not finite: smaller pages."""
    if isinstance(values, list | tuple):
        return [compact(value, digits) for value in values]
    if isinstance(values, float):
        return float(f"{values:.{digits}g}") if math.isfinite(values) else None
    return values


def typeset(text: str) -> str:
    """Text of other modules with true minus signs."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text)


def listed(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    words = list(words)
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def figure(value: float) -> str:
    """Two significant digits below 1, plain otherwise."""
    if not math.isfinite(value):
        return "undefined"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def bracketed(low: float, high: float) -> str:
    """An interval as it stands in a sentence."""
    return f"[{figure(low)}, {figure(high)}]"
