"""Scalars that msgpack lacks, each as one ext element whose payload is never nested.

code  type       payload
 1    UUID       16 bytes
 2    Decimal    its text, which keeps exponent, sign and NaN
 3    date       ISO text
 4    time       ISO text, "!" if fold is 1; without zone
 5    datetime   year uint16; month, day, hour, minute, second uint8; microsecond uint32;
                fold uint8; for UTC that is all; else offset in microseconds int64, then
                "[zone key" for a ZoneInfo, "(name" for an offset with a name of its own
 6    timedelta  days int32, seconds uint32, microseconds uint32

Numbers are big-endian.

The codes and payloads are stored for good: add, never change. This module knows no annotations.
Next to read: ``forms.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NoReturn
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

from perdure.errors import EncodeError, NaiveDatetime

__all__ = ["SCALARS_FROM_TEXT", "SCALARS_OUT", "Refused", "read_ext"]


class Refused(Exception):
    """Why a value or annotation does not fit; the codec adds where, and raises a public error."""

    def __init__(
        self, reason: str, remedy: str | None = None, error: type[EncodeError] = EncodeError
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.error = error


_WALL = struct.Struct(">HBBBBBIB")
_OFFSET = struct.Struct(">q")
_TIMEDELTA = struct.Struct(">iII")
_MICROSECOND = timedelta(microseconds=1)


def _uuid_out(value: UUID) -> bytes:
    return value.int.to_bytes(16)


def _uuid_in(data: bytes) -> UUID:
    if len(data) != 16:
        raise Refused("a UUID that is not 16 bytes long")
    # What UUID(bytes=data) does after its argument checks, in half the time.
    value = object.__new__(UUID)
    object.__setattr__(value, "int", int.from_bytes(data))
    object.__setattr__(value, "is_safe", SafeUUID.unknown)
    return value


def _decimal_out(value: Decimal) -> bytes:
    return str(value).encode()


def _decimal_in(data: bytes) -> Decimal:
    return Decimal(data.decode("ascii"))


def _date_out(value: date) -> bytes:
    return value.isoformat().encode()


def _date_in(data: bytes) -> date:
    return date.fromisoformat(data.decode("ascii"))


def _time_out(value: time) -> bytes:
    if value.tzinfo is not None:
        raise Refused("a time with a zone", "use a datetime, or a time without zone")
    return (value.isoformat() + "!" * value.fold).encode()


def _time_in(data: bytes) -> time:
    text = data.decode("ascii")
    value = time.fromisoformat(text.removesuffix("!"))
    if value.tzinfo is not None:
        raise Refused("a time with a zone")
    return value.replace(fold=1) if text.endswith("!") else value


def _datetime_out(value: datetime) -> bytes:
    wall = _WALL.pack(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        value.fold,
    )
    return wall if value.tzinfo is UTC else wall + _zone(value)


def _zone(value: datetime) -> bytes:
    zone, offset = value.tzinfo, value.utcoffset()
    if zone is None or offset is None:
        raise Refused(
            "a datetime without time zone",
            "use datetime.now(UTC) or give it a tzinfo",
            NaiveDatetime,
        )
    distance = _OFFSET.pack(offset // _MICROSECOND)
    if zone.__class__ is ZoneInfo and zone.key is not None:
        return distance + f"[{zone.key}".encode()
    if zone.__class__ is not timezone:
        raise Refused(
            f"a datetime whose zone is a {type(zone).__name__}",
            "use zoneinfo.ZoneInfo with a key, or datetime.timezone",
        )
    name = zone.tzname(None)
    return distance if name == timezone(offset).tzname(None) else distance + f"({name}".encode()


def _datetime_in(data: bytes) -> datetime:
    year, month, day, hour, minute, second, microsecond, fold = _WALL.unpack(data[:12])
    value = datetime(year, month, day, hour, minute, second, microsecond, UTC)
    if fold:
        value = value.replace(fold=fold)
    return value if len(data) == 12 else _in_zone(value, data[12:])


def _in_zone(value: datetime, tail: bytes) -> datetime:
    offset = timedelta(microseconds=_OFFSET.unpack(tail[:8])[0])
    mark, name = tail[8:9], tail[9:].decode()
    if mark == b"":
        return value.replace(tzinfo=timezone(offset))
    if mark == b"(":
        return value.replace(tzinfo=timezone(offset, name))
    if mark != b"[":
        raise Refused("a datetime with an unknown kind of zone")
    local = value.replace(tzinfo=ZoneInfo(name))
    # The zone's rules may have changed since: the instant that was decided on stays.
    if local.utcoffset() != offset:
        return value.replace(tzinfo=timezone(offset)).astimezone(local.tzinfo)
    return local


def _timedelta_out(value: timedelta) -> bytes:
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def _timedelta_in(data: bytes) -> timedelta:
    return timedelta(*_TIMEDELTA.unpack(data))


SCALARS_OUT: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    UUID: (1, _uuid_out),
    Decimal: (2, _decimal_out),
    date: (3, _date_out),
    time: (4, _time_out),
    datetime: (5, _datetime_out),
    timedelta: (6, _timedelta_out),
}
"""By exact class: the ext code, and what makes the payload."""


class _Readers(dict[int, Callable[[bytes], object]]):
    def __missing__(self, code: int) -> NoReturn:
        raise Refused(f"unknown ext code {code}")


_READERS = _Readers(
    {
        1: _uuid_in,
        2: _decimal_in,
        3: _date_in,
        4: _time_in,
        5: _datetime_in,
        6: _timedelta_in,
    }
)


def read_ext(code: int, data: bytes) -> object:
    """The scalar in an ext element; an unknown code is an error, never a value."""
    return _READERS[code](data)


def _from_text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda given: parse(given) if given.__class__ is str else None


def _decimal_from(given: Any) -> Decimal | None:
    return Decimal(given) if given.__class__ in (str, int) else None


def _datetime_from(given: Any) -> datetime | None:
    value = datetime.fromisoformat(given) if given.__class__ is str else None
    if value is not None and value.tzinfo is None:
        raise Refused("a datetime without time zone", 'write the offset, as "...+00:00" or "...Z"')
    return value


def _timedelta_from(given: Any) -> timedelta | None:
    return timedelta(seconds=given) if given.__class__ in (int, float) else None


SCALARS_FROM_TEXT: dict[type, Callable[[Any], Any]] = {
    UUID: _from_text(UUID),
    Decimal: _decimal_from,
    date: _from_text(date.fromisoformat),
    time: _from_text(time.fromisoformat),
    datetime: _datetime_from,
    timedelta: _timedelta_from,
}
"""What events from outside, as JSON, may write for a scalar: text; for timedelta seconds."""
