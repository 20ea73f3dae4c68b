"""How numbers are written, on a page, in a sentence and in a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

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


def interval(value: Estimate | Mapping[str, Any], digits: int = 3) -> str:
    """The interval of an estimate, without its value."""
    found = _estimate(value)
    return f"[{signed(found.low, digits)}, {signed(found.high, digits)}]"


def estimate(value: Estimate | Mapping[str, Any] | None, digits: int = 3) -> str:
    """An estimate with its interval, where it has one."""
    if value is None:
        return "undefined"
    found = _estimate(value)
    if math.isnan(found.value):
        return "undefined"
    if math.isnan(found.low):
        return signed(found.value, digits)
    return f"{signed(found.value, digits)} {interval(found, digits)}"


def sure(value: Estimate | Mapping[str, Any]) -> bool:
    """Whether an estimate has an interval, and it excludes 0."""
    return _estimate(value).excludes_zero


def above(one: Estimate | Mapping[str, Any], other: Estimate | Mapping[str, Any]) -> bool:
    """Whether both estimates have intervals, and the one's is above the other's."""
    return _estimate(one).above(_estimate(other))


def _estimate(value: Estimate | Mapping[str, Any]) -> Estimate:
    """A mapping of value, low and high as an estimate."""
    if isinstance(value, Estimate):
        return value
    figures = [value.get(name) for name in ("value", "low", "high")]
    number, low, high = (math.nan if figure is None else float(figure) for figure in figures)
    return Estimate(number, low, high, n=0)


def p_value(p: Number | None) -> str:
    """p with its sign of relation."""
    if p is None or math.isnan(p):
        return "p undefined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def compact(values: Any, digits: int = 4) -> Any:
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
