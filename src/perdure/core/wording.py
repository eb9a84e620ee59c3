"""How moments, durations, numbers and names are said to people. Pure.

    when(due_ms, now_ms)        # "2026-11-20 03:00:00 UTC (in 3 h 12 min)"

Whatever comes from outside is shown without characters that a terminal would act on. Next to read:
``waiting.py``, which speaks so.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.core.described import storable
from perdure.messages import datetime_of

__all__ = ["ago", "harmless", "last_line", "listed", "named", "plural", "span", "when"]

NAME_CHARS_MAX = 120
ERROR_CHARS_MAX = 300
LISTED_MAX = 10

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def span(duration_ms: int) -> str:
    """A duration in its two largest units.

    >>> span(11_520_000), span(61_000), span(0)
    ('3 h 12 min', '1 min 1 s', 'less than a second')
    """
    left = abs(duration_ms)
    parts: list[tuple[int, str]] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, unit))
    said = [f"{count} {unit}" for count, unit in parts[:2] if count]
    return " ".join(said) or "less than a second"


def when(at_ms: int, now_ms: int) -> str:
    """A moment, and how far away it is."""
    try:
        at = datetime_of(at_ms).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError):
        return "a moment out of the calendar"
    far = f"in {span(at_ms - now_ms)}" if at_ms > now_ms else f"{span(now_ms - at_ms)} ago"
    return f"{at} ({far})"


def ago(since_ms: int, now_ms: int) -> str:
    """For how long."""
    return span(max(0, now_ms - since_ms))


def harmless(text: str, most: int = ERROR_CHARS_MAX) -> str:
    """The text in one line, of bounded length, with everything that does not print escaped."""
    cut = storable(text)[: most + 1]
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return clean if len(clean) <= most else f"{clean[:most]}…"


def named(text: str) -> str:
    """A name in quotes."""
    return f'"{harmless(text, NAME_CHARS_MAX)}"'


def plural(count: int, word: str) -> str:
    """The number with its noun.

    >>> plural(1, "message"), plural(2, "reply")
    ('1 message', '2 replies')
    """
    if count == 1:
        return f"1 {word}"
    return f"{count} {word[:-1]}ies" if word.endswith("y") else f"{count} {word}s"


def last_line(text: str) -> str:
    """Of an error as it was printed, the line that says what it is."""
    lines = [line for line in text.splitlines() if line.strip()]
    return harmless(lines[-1].strip()) if lines else ""


def listed(names: Sequence[str], word: str = "and") -> str:
    """Names in a sentence, a few of many.

    >>> listed(["a", "b", "c"], "or")
    'a, b or c'
    """
    shown = [harmless(name, NAME_CHARS_MAX) for name in names[:LISTED_MAX]]
    if len(names) > LISTED_MAX:
        return f"{', '.join(shown)} {word} {len(names) - LISTED_MAX} more"
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} {word} {shown[-1]}"
