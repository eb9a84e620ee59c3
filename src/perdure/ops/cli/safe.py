"""What may reach a terminal: text in which nothing is a command to it, and nothing is invisible.

    safe("o-1\\x1b[2J")        # 'o-1\\\\x1b[2J', six characters more

Ids, states, error texts come from anywhere. Control characters, escape sequences, marks that turn
the direction of writing, and characters that are not seen are written as escapes; what is too long
is cut, and says how long it was. Knows no tables. Next to read: ``output.py``.
"""

from __future__ import annotations

import unicodedata

__all__ = ["CHARS_MAX", "cut", "is_unicode", "safe", "safe_lines"]

CHARS_MAX = 2_000
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKS_MAX = 4
"""Combining marks in a row: languages have up to three; heaps of them cover the lines around."""


def safe(text: object, chars_max: int | None = None) -> str:
    """One line that a terminal shows as it is; cut at ``chars_max``."""
    shown = str(text)
    note = ""
    if chars_max is not None:
        shown, note = cut(shown, chars_max)
    if shown.isascii() and shown.isprintable():
        return shown + note
    return "".join(_each(shown, keep="")) + note


def safe_lines(text: object, chars_max: int | None = None) -> str:
    """The same of several lines, which stay lines; a tab is four spaces."""
    shown = str(text)
    note = ""
    if chars_max is not None:
        shown, note = cut(shown, chars_max)
    return "".join(_each(shown.replace("\t", "    "), keep="\n")) + note


def cut(text: str, chars_max: int) -> tuple[str, str]:
    """The beginning of a text, and a note of its length if that is not all."""
    if len(text) <= chars_max:
        return text, ""
    return text[:chars_max], f"… ({len(text):,} characters in all)"


def is_unicode(text: str) -> bool:
    """It has no halves of characters, which bytes of another encoding are read as."""
    return not any("\ud800" <= one <= "\udfff" for one in text)


def _each(text: str, keep: str) -> list[str]:
    shown, marks = [], 0
    for one in text:
        kind = unicodedata.category(one)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if one != keep and (kind in _UNSEEN or marks > _MARKS_MAX):
            shown.append(_escape(one))
        else:
            shown.append(one)
    return shown


def _escape(one: str) -> str:
    number = ord(one)
    if number < 0x100:
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(one, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
