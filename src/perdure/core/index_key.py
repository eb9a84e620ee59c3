"""A value as a text that stands for it in an index: equal as it is equal, ordered as it is ordered.

The order is that of the texts' code points, which is SQLite's own and PostgreSQL's collation "C".
A first letter tells the kind, so what was stored under an older type of a field never looks like a
value of a newer one. Numbers are written as sign, power of ten and digits, whole or not: 1 and
``Decimal("1.0")`` are equal here, too. Long texts are cut: whoever finds something by a key looks
at the value itself before using it. Next to read: ``indexed.py``, where fields are declared.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from perdure.errors import EncodeError

__all__ = ["KEY_CHARS_MAX", "KINDS", "index_key", "whole_key"]

KEY_CHARS_MAX = 200
"""So many characters of a key are stored. What is cut keeps its place: before, or equal."""

_EXPONENT_MAX = 10**8 // 2
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_BIAS = 10**18
"""More microseconds than lie between the epoch and any date."""

_OPPOSITE = str.maketrans("0123456789", "9876543210")


def index_key(value: Any) -> str:
    """The text for a value of one of ``KINDS``, or None, which comes before all; as it is stored.

    >>> index_key("c-1"), index_key(-7), index_key(None)
    ('sc-1', 'n0499999992~', '0')

    Raises ``EncodeError`` for what has no place in an order.
    """
    return whole_key(value)[:KEY_CHARS_MAX]


def whole_key(value: Any) -> str:
    """The same, however long: equal only for values that are."""
    made = _MAKE.get(type(value))
    if made is not None:
        return made(value)
    if isinstance(value, Enum):
        return whole_key(value.value)
    raise EncodeError(
        f"{value!r} of type {type(value).__name__} is no value of an indexed field",
        remedy=f"give one of {', '.join(kind.__name__ for kind in KINDS)}, or None",
    )


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise EncodeError(f"{value!r} is no text: {error}", remedy="mend it") from None
    if "\x00" in value or "\x01" in value:  # not every database can hold a zero
        value = value.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01")
    return "s" + value


def _truth(value: bool) -> str:
    return "b1" if value else "b0"


def _whole(value: int) -> str:
    if not value:
        return "n1"
    try:
        digits = str(abs(value))
    except ValueError:
        raise _too_large("a number of thousands of digits") from None
    return _number(value < 0, len(digits) - 1, digits)


def _decimal(value: Decimal) -> str:
    if value.is_nan():
        raise EncodeError(f"{value} has no place in an order", remedy="use None for no number")
    if value.is_infinite():
        return "n3" if value > 0 else "n/"
    if not value:
        return "n1"
    digits = "".join(map(str, value.as_tuple().digits)).lstrip("0")
    return _number(value < 0, value.adjusted(), digits)


def _number(is_negative: bool, exponent: int, digits: str) -> str:
    if not -_EXPONENT_MAX <= exponent < _EXPONENT_MAX:
        raise _too_large(f"a number with the exponent {exponent}")
    counting = f"{exponent + _EXPONENT_MAX:08}" + digits.rstrip("0")
    return f"n0{counting.translate(_OPPOSITE)}~" if is_negative else f"n2{counting}"


def _too_large(what: str) -> EncodeError:
    return EncodeError(f"{what} cannot be indexed", remedy="index something smaller")


def _moment(value: dt.datetime) -> str:
    if value.utcoffset() is None:
        raise EncodeError(f"{value} has no time zone", remedy="use aware datetimes, such as UTC")
    return f"t{(value - _EPOCH) // _MICROSECOND + _BIAS:020}"


def _day(value: dt.date) -> str:
    return f"d{value.isoformat()}"


def _uuid(value: UUID) -> str:
    return f"u{value.hex}"


_MAKE: dict[type, Callable[[Any], str]] = {
    str: _text,
    int: _whole,
    bool: _truth,
    Decimal: _decimal,
    dt.datetime: _moment,
    dt.date: _day,
    UUID: _uuid,
    type(None): lambda _: "0",
}

KINDS: tuple[type, ...] = (str, int, bool, Decimal, dt.datetime, dt.date, UUID, Enum)
"""What an indexed field may hold, beside None; an Enum's values must be texts or numbers."""
