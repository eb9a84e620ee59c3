"""Where in a value it went wrong, found by going through it again, part by part.

The hot path carries no paths and catches nothing on its way; this module takes the time after a
failure. It knows forms, and no bytes beyond packing a part alone. Next to read: ``codec.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from perdure.codec.forms import Form
from perdure.codec.scalars import Refused
from perdure.codec.wire import pack

__all__ = ["trace_in", "trace_out"]

_Part = tuple[str, Form, Any]


def trace_out(form: Form, value: Any, error: Exception) -> tuple[str, Refused]:
    """The path of the part that cannot be written (".lines[2].price") and why."""
    return _trace(form, value, error, lambda f, v: pack(f.out(v)), lambda f, v: f.parts_out(v))


def trace_in(form: Form, wire: Any, error: Exception) -> tuple[str, Refused]:
    """The path of the part that cannot be read, and why."""
    return _trace(form, wire, error, lambda f, w: f.into(w), lambda f, w: f.parts_in(w))


def _trace(
    form: Form,
    value: Any,
    error: Exception,
    attempt: Callable[[Form, Any], object],
    parts: Callable[[Form, Any], Iterable[_Part]],
) -> tuple[str, Refused]:
    path = ""
    while True:
        try:
            found = _first_failing(parts(form, value), attempt)
        except Refused as missing:
            return path, missing
        if found is None:
            return path, _reason(error)
        label, form, value, error = found
        path += label


def _first_failing(
    parts: Iterable[_Part], attempt: Callable[[Form, Any], object]
) -> tuple[str, Form, Any, Exception] | None:
    for label, form, value in parts:
        try:
            attempt(form, value)
        except Exception as error:
            return label, form, value, error
    return None


def _reason(error: Exception) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, OverflowError):
        return Refused(f"a number is out of range ({error})", "ints have at most 64 bits")
    if isinstance(error, UnicodeError):
        return Refused("the text holds a lone surrogate, which UTF-8 cannot encode")
    return Refused(f"{type(error).__name__}: {error}")
