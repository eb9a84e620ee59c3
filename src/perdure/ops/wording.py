"""Counts, shares and lengths of time in words, as the issues of health have them.

>>> span(9_000)
'2 h 30 min'

Next to read: ``health.py``.
"""

from __future__ import annotations

from itertools import pairwise

from perdure.ops.facts import COUNTED_MAX

__all__ = ["at_least", "counted", "percent", "span", "times"]


def counted(count: int, one: str, many: str = "") -> str:
    """So many of these: "1 job", "2 jobs"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def at_least(processes: int, counted: int) -> str:
    """So many processes; or more, if counting them has ended there."""
    more = " or more" if counted >= COUNTED_MAX else ""
    return f"{processes}{more} {'process' if processes == 1 else 'processes'}"


def times(count: int) -> str:
    """How often: "once", "twice", "3 times"."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def percent(share: float) -> str:
    """A share from 0 to 1: "12 %"."""
    return f"{100 * share:.3g} %"


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def span(seconds: float) -> str:
    """In its largest unit and the next: "2 d 3 h", "90 ms"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for (size, unit), (smaller, next_unit) in pairwise(_UNITS):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            more = f" {rest // smaller} {next_unit}" if rest >= smaller else ""
            return f"{whole} {unit}{more}"
    return f"{seconds:.3g} s"
