"""An error in words that can be stored and shown, whatever the error is. Pure.

Next to read: ``reentry.py`` and ``runtime/dead_letters.py``, which tell of errors.
"""

from __future__ import annotations

import traceback

__all__ = ["described", "in_short", "storable"]

LINE_CHARS_MAX = 500


def described(error: BaseException) -> str:
    """The error in a line, "ValueError: no such account", even if it cannot be printed."""
    return storable("".join(traceback.format_exception_only(error)).strip())


def in_short(error: BaseException) -> str:
    """The error in a line that is not long."""
    line = described(error).replace("\n", " ")
    return line if len(line) <= LINE_CHARS_MAX else f"{line[:LINE_CHARS_MAX]}…"


def storable(text: str) -> str:
    """The text without what is no character."""
    return text.encode("utf-8", "backslashreplace").decode()
