"""Numbers as words: how the report writes estimates, counts, lists and durations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from palate.statistics import Estimate

__all__ = [
    "MINUS",
    "answers",
    "between",
    "count",
    "gain",
    "level_name",
    "listing",
    "number",
    "percent",
    "plural",
    "points",
    "seconds",
    "storage",
]

MINUS = "\u2212"
_NONE = "\u2013"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return _NONE
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """0.741 as "74.1 %"."""
    text = number(None if value is None else 100 * value, digits)
    return text if text == _NONE else f"{text}\u202f%"


def gain(value: float | None, digits: int = 1) -> str:
    """0.042 as "+4.2": percentage points with their sign."""
    text = number(None if value is None else 100 * value, digits)
    if text == _NONE or text.startswith(MINUS) or float(text) == 0:
        return text
    return f"+{text}"


def between(estimate: Estimate | None, *, scale: float = 100.0, digits: int = 1, sign: bool = True) -> str:
    """The interval, "+1.2 to +6.0", in percentage points unless another scale is given."""
    if estimate is None or not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return "no interval"
    ends = []
    for end in (estimate.low, estimate.high):
        text = number(scale * end, digits)
        ends.append(f"+{text}" if sign and not text.startswith(MINUS) and float(text) != 0 else text)
    return f"{ends[0]} to {ends[1]}"


def points(estimate: Estimate | None) -> str:
    """ "+4.2 points (95 % interval +1.2 to +6.0)"."""
    if estimate is None or not math.isfinite(estimate.value):
        return "no estimate"
    return f"{gain(estimate.value)} points ({between(estimate)})"


def count(value: int) -> str:
    """12345 as "12,345"."""
    return f"{value:,}"


def plural(value: int, word: str, many: str = "") -> str:
    """ "1 person", "12 people"."""
    return f"{count(value)} {word if value == 1 else many or word + 's'}"


def answers(k: int) -> str:
    """ "5 answers"."""
    return plural(k, "answer")


def level_name(k: int | str) -> str:
    """What a value of `k` means."""
    return "seen people" if k == "seen" else f"new people, {answers(int(k))}"


def listing(words: Iterable[str]) -> str:
    """ "a, b and c"."""
    words: Sequence[str] = list(words)
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def seconds(value: float | None) -> str:
    """A duration with two significant digits and a unit that a person would choose."""
    if value is None or not math.isfinite(value):
        return _NONE
    if value <= 0:
        return "0 s"
    for limit, size, unit in ((1e-3, 1e-6, "µs"), (1.0, 1e-3, "ms"), (120.0, 1.0, "s"), (7200.0, 60.0, "min")):
        if value < limit:
            return f"{_two_digits(value / size)} {unit}"
    return f"{_two_digits(value / 3600)} h"


def storage(size: float | None) -> str:
    """Bytes as MB or GB."""
    if size is None or not math.isfinite(size):
        return _NONE
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
