"""An error in words that can be stored and shown, whatever the error is. Pure.

Next to read: ``reentry.py`` and ``runtime/letters/dead_letters.py``, which tell of errors.
"""

from __future__ import annotations

import reprlib
import traceback

__all__ = ["described", "in_short", "shown", "storable"]

LINE_CHARS_MAX = 500
SHOWN_CHARS_MAX = 80
SHOWN_BITS_MAX = 128

_shown = reprlib.Repr().repr


def described(error: BaseException) -> str:
    """The error in a line, "ValueError: no such account", even if it cannot be printed."""
    return storable("".join(traceback.format_exception_only(error)).strip())


def in_short(error: BaseException) -> str:
    """The error in a line that is not long."""
    line = described(error).replace("\n", " ")
    return line if len(line) <= LINE_CHARS_MAX else f"{line[:LINE_CHARS_MAX]}…"


def shown(value: object) -> str:
    """What somebody gave, for an error message: however large it is, little of it."""
    if isinstance(value, (str, bytes)):
        cut = value[:SHOWN_CHARS_MAX]
        return repr(cut) if len(cut) == len(value) else f"{cut!r}…"
    if isinstance(value, int) and value.bit_length() > SHOWN_BITS_MAX:
        return f"a number of {value.bit_length()} bits"
    return _shown(value)


def storable(text: str) -> str:
    """The text without what is no character, or is none to PostgreSQL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
